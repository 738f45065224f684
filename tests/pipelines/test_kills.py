"""kill -9 of engines and workers at random moments of a 30-task pipeline, again and again, until it has ended.

``MAINSPRING_LONG_TESTS=1`` makes it 200 kills; the seed is in the name of the test.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from mainspring import lineage
from mainspring.blobs import LocalBlobs
from mainspring.core import Conflict, SystemClock
from mainspring.db import connect
from mainspring.db.tables.pipelines import pipeline_worker
from mainspring.pipelines import Engine, LeaseTimes, ProcessLauncher, get_run, list_tasks

FORK = multiprocessing.get_context("fork")
MOST = 12
"""Kills per run; then it may end."""
KILLS = 200 if os.environ.get("MAINSPRING_LONG_TESTS") else 5
TIMES = LeaseTimes(lease=3.0, heartbeat=0.5, fence=2.0, poll=0.05)


def serve(url: str, blobs: Path, work: Path, id: str, ready) -> None:
    """Execute the run, or help whoever does; forked from the tests, so that it is there at once."""
    database = connect(url)
    launcher = ProcessLauncher(preload=())
    engine = Engine(
        database, LocalBlobs(blobs), SystemClock(), launcher=launcher, work_folder=work, actor="ann", max_parallel=3,
        times=TIMES,
    )  # fmt: skip
    ready.set()
    while True:
        try:
            engine.execute(id)
            return
        except Conflict:
            stopping = threading.Event()
            threading.Timer(0.4, stopping.set).start()
            engine.work(stopping)


def processes_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str((entry / "cwd").readlink()).startswith(str(folder)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def start(database, blobs, tmp_path, id):
    url = database.engine.url.set(drivername=database.dialect).render_as_string(hide_password=False)
    ready = FORK.Event()
    process = FORK.Process(target=serve, args=(url, blobs.root, tmp_path / "work", id, ready), daemon=True)
    process.start()
    assert ready.wait(20)
    return process


@pytest.mark.parametrize("seed", [7])
def test_random_kills_leave_a_run_that_ends_right(make_engine, database, compiled, blobs, tmp_path, seed):
    chance = random.Random(seed)
    kills, runs = 0, 0
    while kills < KILLS:
        runs += 1
        kills += one_run(make_engine, database, compiled, blobs, tmp_path / str(runs), chance, KILLS - kills)


def one_run(make_engine, database, compiled, blobs, tmp_path, chance, wanted) -> int:
    """Run the pipeline with an engine and a worker that are killed; return how many kills hit while tasks ran."""
    (tmp_path / "running").mkdir(parents=True)
    engine = make_engine(database, work_folder=tmp_path / "work")
    id = engine.create_run(compiled["thirty"], pipeline="t", parameters={"folder": str(tmp_path)}, use_cache=False)
    kills = 0
    living = [start(database, blobs, tmp_path, id) for _ in range(2)]
    deadline = time.monotonic() + 120
    while state_of(database, id) in ("PENDING", "RUNNING"):
        assert time.monotonic() < deadline, "the run did not end"
        time.sleep(chance.uniform(0.02, 0.4))
        living = [process for process in living if process.is_alive()]
        if kills < min(wanted, MOST) and living and processes_in(tmp_path):
            victim = chance.choice(living)
            victim.kill()
            victim.join()
            kills += 1
        living = [process for process in living if process.is_alive()]
        while len(living) < 2 and state_of(database, id) in ("PENDING", "RUNNING"):
            living.append(start(database, blobs, tmp_path, id))
    for process in living:
        process.kill()
        process.join()
    check(database, id, tmp_path)
    return kills


def state_of(database, id) -> str:
    with database.read() as connection:
        return get_run(connection, id).state


def check(database, id, tmp_path) -> None:
    with database.read() as connection:
        run, tasks = get_run(connection, id), list_tasks(connection, id)
        executions = lineage.executions_in(connection, "pipeline_run", id)
    assert (run.state, run.error) == ("COMPLETE", "")
    assert run.outputs.parameters == {"Output": [f"loop{index}" for index in range(9)]}
    assert len(tasks) == 30
    assert {task.state for task in tasks} == {"COMPLETE"}
    ended = Counter(execution.name for execution in executions if execution.state == "COMPLETE")
    assert set(ended.values()) == {1}, "a task's effects were recorded twice"
    assert len(ended) == 31
    assert all(execution.ended_at for execution in executions)
    with database.read() as connection:
        assert len(connection.execute(sa.select(pipeline_worker)).all()) <= 4, "dead workers are forgotten"
    for task in tasks:
        name = task.outputs.parameters["Output"]
        starts = len((tmp_path / f"{name}.starts").read_text().split())
        recorded = sum(execution.name == f"t/{task.address}" for execution in executions)
        assert starts <= recorded, "a task ran more often than it was recorded to start"
        assert sum(
            execution.state == "FAILED" for execution in executions if execution.name == f"t/{task.address}"
        ) == (recorded - 1)
    deadline = time.monotonic() + 5
    while (left := processes_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "a process outlived its engine"
