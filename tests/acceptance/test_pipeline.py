"""The flights pipeline through the real command line: anomalies stop it, a kill does not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import polars as pl
import pytest

from mainspring.db import open_database
from mainspring.pipelines import TaskRun, list_tasks


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "mainspring", "--project", str(folder), *arguments]


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *arguments), capture_output=True, text=True, timeout=600, check=False)


def run_id_in(output: str) -> str:
    found = re.search(r"^run (\S+)$", output, re.MULTILINE)
    assert found, output
    return found[1]


def until_named(lines: Iterable[str]) -> Iterator[str]:
    """Return the lines up to the one that names the run: a slow machine may have something to say before."""
    for line in lines:
        yield line
        if line.startswith("run "):
            return


def tasks_of(folder: Path, run_id: str) -> dict[str, TaskRun]:
    database = open_database(f"sqlite:///{folder}/.mainspring/mainspring.db")
    with database.read() as connection:
        tasks = list_tasks(connection, run_id)
    database.close()
    return {task.name: task for task in tasks}


def deliver(folder: Path, change: Any) -> None:
    """Put one more weekly file into the project: the newest one, changed."""
    newest = max((folder / "incoming").glob("week-*.parquet"))
    frame = change(pl.read_parquet(newest))
    frame.write_parquet(folder / "incoming" / "week-99.parquet")
    assert cli(folder, "data", "snapshot").returncode == 0


@pytest.mark.parametrize(
    ("change", "anomaly"),
    [
        (lambda frame: frame.drop("distance"), "SCHEMA_MISSING_COLUMN"),
        (lambda frame: frame.with_columns(pl.col("distance").cast(pl.String)), "distance"),
    ],
    ids=["missing column", "wrong type"],
)
def test_a_schema_anomaly_stops_the_pipeline_before_training(own_demo: Any, change: Any, anomaly: str) -> None:
    deliver(own_demo.folder, change)
    done = cli(own_demo.folder, "run", "train")
    assert done.returncode == 8, done.stdout + done.stderr
    assert anomaly in done.stderr
    states = {name: task.state for name, task in tasks_of(own_demo.folder, run_id_in(done.stdout)).items()}
    assert states["validate"] == "FAILED"
    assert {states[name] for name in ("train", "evaluate", "gate", "register")} == {"SKIPPED"}


def test_running_the_same_thing_again_takes_everything_from_the_cache(own_demo: Any) -> None:
    deliver(own_demo.folder, lambda frame: frame.with_columns(pl.col("scheduled_departure") + 7 * 86_400_000))
    first = cli(own_demo.folder, "run", "train", "-p", "trees=20")
    assert first.returncode == 0, first.stdout + first.stderr
    second = cli(own_demo.folder, "run", "train", "-p", "trees=20")
    assert second.returncode == 0, second.stdout + second.stderr
    states = {name: task.state for name, task in tasks_of(own_demo.folder, run_id_in(second.stdout)).items()}
    assert {states[name] for name in ("ingest", "validate", "train", "evaluate")} == {"CACHED"}


def test_after_kill_9_in_the_middle_finished_tasks_do_not_run_again(own_demo: Any) -> None:
    folder = own_demo.folder
    with subprocess.Popen(
        command(folder, "run", "train", "--no-cache", "-p", "trees=400"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        run_id = run_id_in("".join(until_named(process.stdout)))
        deadline = monotonic() + 120
        while tasks_of(folder, run_id)["train"].state != "RUNNING":
            assert monotonic() < deadline, f"train did not start: {tasks_of(folder, run_id)}"
            assert process.poll() is None, process.stdout.read()
            sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    before = tasks_of(folder, run_id)
    assert before["ingest"].state == before["validate"].state == "COMPLETE"
    assert before["train"].state == "RUNNING"

    done = cli(folder, "resume", run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    after = tasks_of(folder, run_id)
    for name in ("ingest", "validate"):
        assert after[name].execution_id == before[name].execution_id
        assert after[name].started_at == before[name].started_at
    assert after["train"].state == "COMPLETE"
    assert after["train"].execution_id != before["train"].execution_id
    assert after["gate"].state == "COMPLETE"
