"""kill -9 of engines, workers and zygotes at random moments of a 30-task pipeline, until it has ended.

``MAINSPRING_LONG_TESTS=1`` makes it 200 kills of engines and workers; the seed is in the name of the test.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from mainspring import lineage
from mainspring.blobs import LocalBlobs
from mainspring.core import Conflict, SystemClock
from mainspring.db import connect
from mainspring.pipelines import Engine, LeaseTimes, ProcessLauncher, get_run, list_tasks

FORK = multiprocessing.get_context("fork")
MOST = 12
"""Kills per run; then it may end."""
KILLS = 200 if os.environ.get("MAINSPRING_LONG_TESTS") else 5
TIMES = LeaseTimes(lease=3.0, heartbeat=0.5, fence=2.0, poll=0.05)
MARK = "MAINSPRING_TEST_OF_KILLS"
ROLES = ("engine", "worker")


@dataclass
class Hits:
    """What was killed, and what that led to."""

    killed: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    attempts: int = 0
    lost_after_their_end: int = 0
    """Attempts that had done all they do when they were lost: their tasks ran once more."""

    @property
    def kills(self) -> int:
        return sum(self.killed[role] for role in ROLES)


@dataclass
class Living:
    """A process that executes the run or helps with it."""

    process: BaseProcess
    role: object

    def __str__(self) -> str:
        return ROLES[self.role.value]


def serve(url: str, blobs: Path, folder: Path, id: str, ready, role) -> None:
    """Execute the run, or help whoever does; forked from the tests, so that it is there at once."""
    os.environ[MARK] = str(folder)
    database = connect(url)
    launcher = ProcessLauncher(preload=())
    engine = Engine(
        database, LocalBlobs(blobs), SystemClock(), launcher=launcher, work_folder=folder / "work", actor="ann",
        max_parallel=3, times=TIMES,
    )  # fmt: skip
    ready.set()
    while True:
        try:
            role.value = 0
            engine.execute(id)
            return
        except Conflict:
            role.value = 1
            stopping = threading.Event()
            threading.Timer(0.4, stopping.set).start()
            engine.work(stopping)


def processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def marked(folder: Path) -> set[int]:
    """Return the processes that were born with the mark of this run: zygotes and all that comes from them."""
    found, mark = set(), f"{MARK}={folder}".encode()
    for entry in processes():
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def born(pid: int) -> str:
    """Return when a process started; empty when there is none any more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def children(pid: int) -> set[int]:
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.update(map(int, path.read_text().split()))
        except OSError:
            continue
    return found


def descendants(pid: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for child in children(pid):
        found |= {child: born(child), **descendants(child)}
    return found


def start(database, blobs, tmp_path, id) -> Living:
    url = database.engine.url.set(drivername=database.dialect).render_as_string(hide_password=False)
    ready, role = FORK.Event(), FORK.Value("i", 0)
    process = FORK.Process(target=serve, args=(url, blobs.root, tmp_path, id, ready, role), daemon=True)
    process.start()
    assert ready.wait(60)
    return Living(process, role)


@pytest.mark.parametrize("seed", [7])
def test_random_kills_leave_a_run_that_ends_right(make_engine, database, compiled, blobs, tmp_path, seed):
    chance, hits = random.Random(seed), Hits()
    while hits.kills < KILLS:
        hits.runs += 1
        one_run(make_engine, database, compiled, blobs, tmp_path / str(hits.runs), chance, hits)
    print(f"{database.dialect}: {hits}")
    if KILLS >= 100:
        assert min(hits.killed[role] for role in ROLES) > KILLS / 5
        assert hits.killed["zygote"] > 0


def one_run(make_engine, database, compiled, blobs, tmp_path, chance, hits) -> None:
    """Run the pipeline with an engine and a worker that are killed again and again."""
    (tmp_path / "running").mkdir(parents=True)
    engine = make_engine(database, work_folder=tmp_path / "work")
    id = engine.create_run(compiled["thirty"], pipeline="t", parameters={"folder": str(tmp_path)}, use_cache=False)
    first, below = hits.kills, dict[int, str]()
    living = [start(database, blobs, tmp_path, id) for _ in range(2)]
    deadline = time.monotonic() + 120
    while state_of(database, id) in ("PENDING", "RUNNING"):
        assert time.monotonic() < deadline, "the run did not end"
        time.sleep(chance.uniform(0.02, 0.4))
        living = [each for each in living if each.process.is_alive()]
        if living and hits.kills < KILLS and hits.kills - first < MOST and state_of(database, id) == "RUNNING":
            below |= kill_one(chance.choice(living), chance, hits)
        living = [each for each in living if each.process.is_alive()]
        while len(living) < 2 and state_of(database, id) in ("PENDING", "RUNNING"):
            living.append(start(database, blobs, tmp_path, id))
    for each in living:
        each.process.kill()
        each.process.join()
    check_record(database, id)
    check_effects(database, id, tmp_path, hits)
    check_orphans(tmp_path, below, hits)


def kill_one(victim: Living, chance: random.Random, hits: Hits) -> dict[int, str]:
    """Kill an engine or worker, its zygotes, or both at once; return the processes that were below it."""
    pid = victim.process.pid
    below, zygotes = descendants(pid), children(pid)
    how = chance.choices(["itself", "zygote", "both"], [6, 1, 2])[0]
    if how != "zygote":
        hits.killed[str(victim)] += 1
        victim.process.kill()
    if how != "itself":
        hits.killed["zygote"] += len(zygotes)
        for zygote in zygotes:
            os.kill(zygote, signal.SIGKILL)
    if how != "zygote":
        victim.process.join()
    return below


def state_of(database, id) -> str:
    with database.session() as session:
        return get_run(session, id).state


def check_record(database, id) -> None:
    """The run ended right, each of its tasks once."""
    with database.session() as session:
        run, tasks = get_run(session, id), list_tasks(session, id)
        executions = lineage.executions_in(session, "pipeline_run", id)
        workers = session.rows("SELECT id FROM pipeline_worker")
    assert (run.state, run.error) == ("COMPLETE", "")
    assert run.outputs.parameters == {"Output": [f"loop{index}" for index in range(9)]}
    assert len(tasks) == 30
    assert {task.state for task in tasks} == {"COMPLETE"}
    ended = Counter(execution.name for execution in executions if execution.state == "COMPLETE")
    assert set(ended.values()) == {1}, "a task's effects were recorded twice"
    assert len(ended) == 31
    assert all(execution.ended_at for execution in executions)
    assert len(workers) <= 4, "dead workers are forgotten"


def check_effects(database, id, tmp_path, hits) -> None:
    """What tasks did agrees with what is recorded: no attempt ran twice, only the one that counts was not lost."""
    with database.session() as session:
        tasks, executions = list_tasks(session, id), lineage.executions_in(session, "pipeline_run", id)
    for task in tasks:
        marks = [
            line.split() for line in (tmp_path / f"{task.outputs.parameters['Output']}.marks").read_text().splitlines()
        ]
        started = Counter(attempt for word, attempt in marks if word == "start")
        ended = Counter(attempt for word, attempt in marks if word == "end")
        recorded = {each.id: each.state for each in executions if each.name == f"t/{task.address}"}
        assert set(started.values()) == set(ended.values()) == {1}, "an attempt ran twice"
        assert ended.keys() <= started.keys() <= recorded.keys(), "an attempt ran that nobody recorded"
        assert [attempt for attempt, state in recorded.items() if state == "COMPLETE"] == [task.execution_id]
        assert ended[task.execution_id] == 1, "the attempt that counts did not end"
        assert {state for attempt, state in recorded.items() if attempt != task.execution_id} <= {"FAILED"}
        hits.attempts += len(recorded)
        hits.lost_after_their_end += len(ended) - 1


def check_orphans(tmp_path, below, hits) -> None:
    """Nothing of the run lives: neither what was born with its mark, nor what was below those who were killed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        left = marked(tmp_path) | {pid for pid, birth in below.items() if birth and born(pid) == birth}
        if not left:
            return
        time.sleep(0.05)
    told = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in left]
    raise AssertionError(f"processes outlived their engine: {told} after {hits}")
