from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mainspring", "--project", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def walk(finding: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding, *(found for child in finding["children"] for found in walk(child))]


def test_the_demo_tells_the_year_week_by_week_and_no_prediction_failed(demo: Any) -> None:
    assert "29 Jan" in demo.output
    assert "promoted" in demo.output
    assert " 0 failed" in demo.output


def test_the_loop_retrains_for_a_reason_it_says(demo: Any) -> None:
    assert "retrain: " in demo.output
    assert "nats" in demo.output or "scheduled every" in demo.output


def test_why_walks_from_a_prediction_to_everything_behind_it(demo: Any) -> None:
    done = cli(demo.folder, "why", demo.prediction_id, "--json")
    assert done.returncode == 0, done.stderr
    findings = walk(json.loads(done.stdout))
    labels = {found["label"] for found in findings}
    assert labels >= {
        "prediction", "endpoint", "model version", "approved", "tracking run", "params", "metrics", "pipeline run",
        "because of", "arguments", "code", "environment", "task", "used", "made", "part", "newest file",
    }  # fmt: skip
    tasks = {found["value"] for found in findings if found["label"] == "task"}
    assert tasks >= {"ingest", "validate", "train", "evaluate", "evaluate-champion", "gate", "register"}
    checked = [found for found in findings if found["verified"] is not None]
    assert len(checked) > 20
    assert all(found["verified"] for found in checked)


def test_why_in_the_terminal_is_a_tree(demo: Any) -> None:
    done = cli(demo.folder, "why", demo.prediction_id)
    assert done.returncode == 0, done.stderr
    assert "├── " in done.stdout
    assert "0 do not match" in done.stdout


def test_why_tells_when_an_artifact_was_tampered_with(own_demo: Any) -> None:
    findings = walk(json.loads(cli(own_demo.folder, "why", own_demo.prediction_id, "--json").stdout))
    digest = next(found["detail"] for found in findings if found["label"] == "part")
    path = own_demo.folder / ".mainspring" / "blobs" / "sha256" / digest[7:9] / digest[9:]
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = cli(own_demo.folder, "why", own_demo.prediction_id)
    assert done.returncode == 5
    assert digest in done.stderr
    assert "do not match" in done.stdout


def test_why_tells_why_a_request_was_refused(own_demo: Any) -> None:
    from mainspring.core import FixedClock
    from mainspring.serving import PredictionRecord
    from mainspring.serving.log import SegmentLog

    log = SegmentLog(own_demo.folder / ".mainspring/endpoints/flights-delay/predictions", FixedClock(1_400_000_000_000))
    refused = PredictionRecord(
        id="bad-request", received_at=1_400_000_000_000, latency_ms=1.0, endpoint="flights-delay", revision=1,
        variant="champion", shadow=False, model="flights-delay", version="1", digest="sha256:" + "0" * 64,
        protocol="v2", status=400, rows=2, inputs={"month": ["x", 1]},
        validation_errors=["column 'month': expected a number, got 'x' in row 0"],
    )  # fmt: skip
    log.append([refused])
    log.close()
    done = cli(own_demo.folder, "why", "bad-request:1", "--json")
    assert "refused" in done.stdout
    assert "expected a number" in done.stdout


def test_a_row_the_request_did_not_have_is_refused(demo: Any) -> None:
    request = demo.prediction_id.split(":")[0]
    done = cli(demo.folder, "why", f"{request}:9999")
    assert done.returncode == 2
    assert "rows" in done.stderr


@pytest.mark.parametrize("command", ["runs", "models", "events", "data list"])
def test_what_happened_can_be_listed(demo: Any, command: str) -> None:
    done = cli(demo.folder, *command.split())
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 2


def test_every_arc_of_the_loop_names_its_cause(demo: Any) -> None:
    from mainspring.db import open_database
    from mainspring.lineage import list_events, trace_cause

    database = open_database(f"sqlite:///{demo.folder}/.mainspring/mainspring.db")
    with database.read() as connection:
        promoted = list_events(connection, types=("rollout.promoted",), limit=1)
        chain = [event.type for event in trace_cause(connection, promoted[0].id)]
    assert chain == [
        "rollout.promoted",
        "rollout.started",
        "pipeline.run.started",
        "trigger.fired",
        "monitor.window.measured",
    ]
    database.close()
