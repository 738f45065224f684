"""kill -9 of the engine or of the zygote, then going on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mainspring import lineage
from mainspring.pipelines import ProcessLauncher, get_run, list_runs, list_tasks

ENGINE = """
import sys
from pathlib import Path
from mainspring.blobs import LocalBlobs
from mainspring.core import SystemClock
from mainspring.db import connect
from mainspring.pipelines import Engine, ProcessLauncher
url, blobs, work, run = sys.argv[1:]
engine = Engine(connect(url), LocalBlobs(Path(blobs)), SystemClock(), launcher=ProcessLauncher(preload=()),
                work_folder=Path(work), actor="ann")
engine.execute(run)
"""


@pytest.fixture
def execute_elsewhere(blobs, tmp_path):
    """Execute a run in an engine process of its own; return the process."""

    def start(database, run_id):
        url = database.engine.url.set(drivername=database.dialect).render_as_string(hide_password=False)
        command = [sys.executable, "-c", ENGINE, url, str(blobs.root), str(tmp_path / "work"), run_id]
        return subprocess.Popen(command)

    return start


def wait_for_lines(path, count, timeout=60):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return path.read_text().splitlines()
        time.sleep(0.01)
    raise AssertionError(f"{path} did not get {count} lines")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_after_kill_9_finished_tasks_do_not_run_again(make_engine, database, compiled, tmp_path, execute_elsewhere):
    engine = make_engine(database)
    log = tmp_path / "log"
    id = engine.create_run(compiled["counting"], pipeline="counting", parameters={"path": str(log), "seconds": 0.15})
    process = execute_elsewhere(database, id)
    wait_for_lines(log, 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with database.read() as connection:
        states = {task.name: task.state for task in list_tasks(connection, id)}
        assert [(run.id, run.state) for run in list_runs(connection)] == [(id, "RUNNING")]
    done = [line for line, state in zip(log.read_text().split(), states.values(), strict=False) if state == "COMPLETE"]
    assert done
    assert engine.execute(id).state == "COMPLETE"
    counts = Counter(log.read_text().split())
    assert set(counts) == {f"t{index}" for index in range(6)}
    assert all(counts[name] == 1 for name in done)
    assert sum(counts.values()) <= 7
    with database.read() as connection:
        assert get_run(connection, id).state == "COMPLETE"
        executions = lineage.executions_in(connection, "pipeline_run", id)
    assert sum(execution.state == "COMPLETE" for execution in executions) == 7
    assert all(execution.ended_at for execution in executions)


def test_when_the_engine_dies_its_tasks_die_with_all_they_started(
    make_engine, sqlite_database, compiled, tmp_path, execute_elsewhere
):
    pids = tmp_path / "pids"
    id = make_engine(sqlite_database).create_run(compiled["lingering"], pipeline="l", parameters={"path": str(pids)})
    process = execute_elsewhere(sqlite_database, id)
    wait_for_lines(pids, 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = [int(pid) for pid in pids.read_text().split()]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(map(is_alive, started)):
        time.sleep(0.02)
    assert not any(map(is_alive, started))


def test_a_task_leaves_no_process_behind(make_engine, sqlite_database, compiled, tmp_path):
    engine, pids = make_engine(sqlite_database), tmp_path / "pids"
    parameters = {"path": str(pids), "seconds": 0.0}
    assert (
        engine.execute(engine.create_run(compiled["lingering"], pipeline="l", parameters=parameters)).state
        == "COMPLETE"
    )
    time.sleep(0.1)
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())


def test_a_killed_zygote_is_replaced_and_the_task_runs_again(make_engine, sqlite_database, compiled, tmp_path):
    launcher = ProcessLauncher(preload=())
    engine, log = make_engine(sqlite_database, launcher=launcher), tmp_path / "log"
    id = engine.create_run(compiled["counting"], pipeline="c", parameters={"path": str(log), "seconds": 0.2})

    def kill():
        wait_for_lines(log, 2)
        os.kill(launcher.zygote_pids[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    finished = engine.execute(id)
    thread.join()
    launcher.close()
    assert finished.state == "COMPLETE"
    assert Counter(log.read_text().split()) == {"t0": 1, "t1": 2, "t2": 1, "t3": 1, "t4": 1, "t5": 1}
