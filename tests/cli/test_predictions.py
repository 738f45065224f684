"""Prediction logs and labels on the command line, of real endpoints and of folders alone."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from mainspring.cli import main
from mainspring.core import FixedClock
from mainspring.serving import PredictionRecord, read_labels
from mainspring.serving.log import DAY_MS, SegmentLog


@dataclass(frozen=True)
class Done:
    """What a command printed."""

    stdout: bytes
    stderr: bytes


@pytest.fixture
def run(tmp_path, monkeypatch, capsysbinary):
    """Run the command line in a project folder: ``run("predictions", …, status=2)``."""

    def call(*arguments: object, status: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["mainspring", "--project", str(tmp_path), *map(str, arguments)])
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        sys.stdout.flush()
        out, err = capsysbinary.readouterr()
        assert (left.value.code or 0) == status, err.decode()
        return Done(out, err)

    return call


def _record(id: str, at: int, **changes: object) -> PredictionRecord:
    fields: dict = {
        "latency_ms": 1.5, "endpoint": "e", "revision": 1, "variant": "champion", "shadow": False, "model": "m",
        "version": "3", "digest": "sha256:0", "protocol": "v1", "status": 200, "rows": 1,
        "inputs": {"flight": [id.upper()], "x": [1.5]}, "outputs": [0.5],
    }  # fmt: skip
    return PredictionRecord(id=id, received_at=at, **(fields | changes))


@pytest.fixture
def log(tmp_path) -> Path:
    """The folder of two workers, one of them killed in the middle of a write."""
    clock = FixedClock()
    folder = tmp_path / "log"
    one, two = (SegmentLog(folder / "predictions", clock) for _ in range(2))
    one.append([_record("a", clock.now_ms()), _record("b", clock.now_ms(), status=400, outputs=None,
                                                      validation_errors=["column 'x' is missing"])])  # fmt: skip
    clock.advance(DAY_MS)
    two.append([_record("c", clock.now_ms())])
    one.close()
    two.close()
    with max((folder / "predictions").glob("*.jsonl")).open("ab") as file:
        file.write(b'{"id":"torn","received_at":1')
    return folder


def test_an_export_has_every_whole_record_in_json_lines(tmp_path, log, run):
    lines = run("predictions", "export", log).stdout.splitlines()
    found = {record["request_id"]: record for record in map(json.loads, lines)}
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"]["model_version"] == "3"
    assert found["a"]["inputs"] == {"flight": ["A"], "x": [1.5]}
    assert (found["a"]["outputs"], found["a"]["status"], found["a"]["latency_ms"]) == ([0.5], 200, 1.5)
    assert found["b"]["validation_errors"] == ["column 'x' is missing"]
    assert isinstance(found["c"]["received_at"], int)


def test_an_export_is_limited_by_time_and_endpoint_and_can_be_parquet(tmp_path, log, run):
    since = run("predictions", "export", log, "--since", "2013-01-02").stdout
    assert json.loads(since)["request_id"] == "c"
    assert run("predictions", "export", log, "--endpoint", "other").stdout == b""
    run("predictions", "export", log, "--format", "parquet", "-o", tmp_path / "out.parquet")
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert sorted(frame["request_id"]) == ["a", "b", "c"]
    assert {"model_version", "outputs", "received_at", "input.x"} <= set(frame.columns)
    assert b"Parquet needs a file" in run("predictions", "export", log, "--format", "parquet", status=2).stderr
    assert b"is not a time" in run("predictions", "export", log, "--since", "noon", status=2).stderr
    (tmp_path / "empty").mkdir()
    assert b"no prediction log" in run("predictions", "export", tmp_path / "empty", status=3).stderr


def test_a_project_seals_checks_and_exports_its_logs(tmp_path, log, run):
    (tmp_path / "mainspring.yaml").write_text("project: p\n")
    home = tmp_path / ".mainspring" / "endpoints"
    home.mkdir(parents=True)
    log.rename(home / "e")
    before = sorted(run("predictions", "export").stdout.splitlines())
    assert b"3 records" in run("predictions", "seal").stdout
    assert not list((home / "e" / "predictions").glob("*.jsonl"))
    assert sorted(run("predictions", "export").stdout.splitlines()) == before
    assert b"e/predictions: 1 sealed files" in run("predictions", "check").stdout
    blob = next((tmp_path / ".mainspring" / "blobs" / "sha256").glob("*/*"))
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[::-1])
    assert b"changed after it was sealed" in run("predictions", "check", status=5).stderr


def test_labels_from_files_by_id_and_by_key(tmp_path, log, run):
    (tmp_path / "labels.csv").write_text(
        "id,label,time\na:0,1,2013-03-01\na:0,0,2013-03-02T00:00:00Z\nnobody:0,1,1362096000000\n"
    )
    said = run("labels", "add", tmp_path / "labels.csv", "--log", log).stdout
    assert said == b"3 labels added: 1 for logged predictions, 1 unknown, 1 repeated (the newest counts).\n"
    at = FixedClock().now_ms() + 5
    pl.DataFrame({"flight": ["A", "Z"], "label": [1, 0], "time": [at + 1, at + 1], "at": [at, at]}).write_parquet(
        tmp_path / "keys.parquet"
    )
    said = run("labels", "add", tmp_path / "keys.parquet", "--log", log, "--key", "flight").stdout
    assert said.startswith(b"2 labels added: 1 for logged predictions, 1 unknown")
    assert [label.value for label in read_labels(log / "labels")][-2:] == ["A", "Z"]
    assert b"5 labels: 2 for" in run("labels", "check", "--log", log).stdout
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "label": 1, "time": 5}\n{"label": "x", "time": 1, "id": "a:1"}\n')
    bad = run("labels", "add", tmp_path / "bad.jsonl", "--log", log, status=2).stderr
    assert b"label 0: id must be" in bad
    assert b"label 1: label must be a number" in bad
