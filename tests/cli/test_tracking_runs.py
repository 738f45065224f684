"""``mainspring runs``, ``export``, ``import``, ``client flush`` through the real command line."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mainspring import client
from mainspring.cli.app import app
from mainspring.cli.sparklines import BARS, sparkline
from mainspring.cli.tracking_runs import best


@pytest.fixture
def mainspring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command on a project folder; return what it prints."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str, fails: bool = False) -> str:
        done = CliRunner().invoke(app, ["--project", str(tmp_path), *arguments])
        assert (done.exception is not None) == fails, done.output
        return str(done.exception) if fails else done.stdout

    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three runs logged without a server; the commands take them in."""
    ids = []
    for number in range(3):
        params = {"lr": number, "depth": 3}
        with client.start_run(
            experiment="flights", name=f"run[{number}]", params=params, home=tmp_path / ".mainspring"
        ) as run:
            for step in range(50):
                client.log_metric("loss", 1 / (step + 1 + number), step=step)
            client.log_metrics({"auc": 0.5 + number / 10, "odd": math.nan})
            (tmp_path / "notes.txt").write_text("x")
            client.log_artifact(tmp_path / "notes.txt", "texts")
        ids.append(run.id)
    return ids


def test_runs_are_listed_with_filter_and_order(mainspring: Callable, runs: list[str]) -> None:
    listed = mainspring("runs")
    assert all(id[:8] in listed for id in runs)
    assert "run[1]" in listed
    found = json.loads(
        mainspring("runs", "list", "-e", "flights", "--order-by", "metrics.auc DESC", "--limit", "2", "--json")
    )
    assert [run["id"] for run in found] == [runs[2], runs[1]]
    found = json.loads(mainspring("runs", "list", "--filter", "metrics.auc > 0.55 and params.lr = '1'", "--json"))
    assert [run["id"] for run in found] == [runs[1]]
    assert "flights2" in mainspring("runs", "list", "-e", "flights2", fails=True)


def test_a_run_is_shown_by_the_beginning_of_its_id(mainspring: Callable, runs: list[str]) -> None:
    shown = mainspring("runs", "show", runs[0][:10])
    assert runs[0] in shown
    assert "█" in shown
    assert "artifact texts/" in shown
    document = json.loads(mainspring("runs", "show", runs[0], "--json"))
    assert len(document["histories"]["loss"]) == 50
    assert document["artifacts"] == ["texts/"]
    assert "mainspring runs list" in mainspring("runs", "show", "0" * 32, fails=True)


def test_the_id_of_a_pipeline_run_shows_its_tasks(mainspring: Callable, tmp_path: Path) -> None:
    from mainspring.core.project import Project
    from mainspring.core.settings import resolve_settings
    from mainspring.db.tables.pipelines import pipeline_run, pipeline_task
    from mainspring.lineage import open_store

    store = open_store(resolve_settings(tmp_path), Project(project="p"))
    id = "01k" + "0" * 23
    task = {"run_id": id, "address": "train", "name": "train", "state": "FAILED", "error": "no data", "took_ms": 1500}
    task |= {"upstream": []}
    with store.database.write() as connection:
        connection.execute(sa.insert(pipeline_run).values(
            id=id, pipeline="weekly", name="weekly", state="FAILED", actor="me", ir_digest="", use_cache=True,
            created_at=0, warnings=[],
        ))  # fmt: skip
        connection.execute(sa.insert(pipeline_task).values(position=0, component_digest="", **task))
    store.close()
    shown = mainspring("runs", "show", id)
    assert "weekly" in shown
    assert "1.5 s" in shown
    assert json.loads(mainspring("runs", "show", id, "--json"))["tasks"][0]["error"] == "no data"


def test_runs_are_compared_and_the_best_is_marked(mainspring: Callable, runs: list[str]) -> None:
    compared = json.loads(mainspring("runs", "compare", *runs, "--json"))
    assert compared["params"] == {"lr": ["0", "1", "2"]}
    assert compared["metrics"]["auc"] == [0.5, 0.6, 0.7]
    lines = mainspring("runs", "compare", *runs).splitlines()
    marked = {line.split()[0]: line for line in lines if "*" in line}
    assert marked["metrics.auc"].rstrip().endswith("0.7 *")
    assert marked.keys() == {"metrics.auc", "metrics.loss"}
    assert "two or more" in mainspring("runs", "compare", runs[0], fails=True)


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_runs_are_exported_to_a_file(mainspring: Callable, runs: list[str], tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"runs.{kind}"
    mainspring("runs", "export", str(file))
    read = {"csv": pl.read_csv, "json": pl.read_ndjson, "parquet": pl.read_parquet}[kind]
    frame = read(file).sort("metrics.auc")
    assert frame["run_id"].to_list() == runs
    assert frame["metrics.auc"].to_list() == [0.5, 0.6, 0.7]
    assert "'xls'" in mainspring("runs", "export", "runs.xls", fails=True)


def test_the_whole_store_goes_to_a_folder_and_back(mainspring: Callable, runs: list[str], tmp_path: Path) -> None:
    assert "3 runs" in mainspring("client", "flush")
    report = json.loads(mainspring("export", str(tmp_path / "out"), "--json"))
    second = ("--home", str(tmp_path / "second"))
    taken = CliRunner().invoke(app, ["--project", str(tmp_path), *second, "import", str(tmp_path / "out"), "--json"])
    assert json.loads(taken.stdout)["rows"] == report["rows"]
    listed = CliRunner().invoke(app, ["--project", str(tmp_path), *second, "runs", "list", "--json"])
    assert {run["id"] for run in json.loads(listed.stdout)} == set(runs)
    assert "not empty" in mainspring("export", str(tmp_path / "out"), fails=True)


def test_an_error_is_one_line_and_a_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mainspring", "--project", str(tmp_path), "import-mlflow", "/nowhere/mlruns"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 3
    assert "error: There is no MLflow file store in /nowhere/mlruns." in done.stderr
    assert "Traceback" not in done.stderr


@given(st.lists(st.floats(), max_size=200), st.integers(1, 60))
def test_a_sparkline_is_as_wide_as_there_is_room(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= {*BARS, " "}


def test_the_best_is_the_smallest_where_the_name_says_so() -> None:
    assert best("val_loss", [0.3, 0.2, None]) == 1
    assert best("auc", [0.3, math.nan, 0.2]) == 0
    assert best("auc", [0.5, 0.5]) is None
