"""Cancel, retry, several engines and workers on one store."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from mainspring.core import Conflict, FixedClock
from mainspring.db import connect
from mainspring.pipelines import LeaseTimes, ProcessLauncher, get_run, list_tasks
from mainspring.pipelines.journal import check_attempt, own
from mainspring.pipelines.leases import LostLease, Presence, is_alive, living_workers
from mainspring.pipelines.records import update_task

QUICK = LeaseTimes(lease=2.0, heartbeat=0.2, fence=1.5, poll=0.05)


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def tasks_of(database, id):
    with database.read() as connection:
        return {task.address: task for task in list_tasks(connection, id)}


@pytest.fixture
def in_background():
    """Run functions in threads; join them at the end and raise what they raised."""
    threads, errors = [], []

    def start(function, *arguments):
        def call():
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001 - raised again by the test that started the thread
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors, errors


def test_a_run_can_be_canceled_from_elsewhere_and_its_exit_task_runs(
    make_engine, database, compiled, tmp_path, in_background
):
    engine = make_engine(database, times=QUICK)
    log, words = tmp_path / "log", tmp_path / "words"
    id = engine.create_run(compiled["guarded"], pipeline="g", parameters={"path": str(log), "words": str(words)})
    thread = in_background(engine.execute, id)
    wait_until(log.exists)
    elsewhere = connect(database.engine.url.set(drivername=database.dialect).render_as_string(hide_password=False))
    began = time.monotonic()
    make_engine(elsewhere, launcher=None).cancel(id)
    thread.join(60)
    assert time.monotonic() - began < 40
    elsewhere.close()
    tasks = tasks_of(database, id)
    with database.read() as connection:
        run = get_run(connection, id)
    assert (run.state, run.error) == ("CANCELED", "The run was canceled.")
    assert log.read_text() == "start first\n"
    assert words.read_text().startswith("CANCELLED|")
    assert tasks["exit-handler-1/linger-unless-killed"].state == "CANCELED"
    assert tasks["exit-handler-1/linger-unless-killed-2"].state == "CANCELED"
    assert tasks["last-words"].state == "COMPLETE"
    with pytest.raises(Conflict, match="ended already"):
        engine.cancel(id)


def test_a_run_nobody_executes_is_canceled_at_once(make_engine, sqlite_database, compiled, tmp_path):
    engine = make_engine(sqlite_database)
    id = engine.create_run(compiled["chain"], pipeline="c", parameters={})
    assert engine.cancel(id).state == "CANCELED"
    assert engine.execute(id).state == "CANCELED"
    assert {task.state for task in tasks_of(sqlite_database, id).values()} == {"CANCELED"}


def test_retry_runs_what_failed_and_keeps_what_did_not(make_engine, database, compiled, tmp_path):
    engine = make_engine(database)
    log, switch, words = tmp_path / "log", tmp_path / "switch", tmp_path / "words"
    switch.touch()
    parameters = {"path": str(log), "switch": str(switch), "words": str(words)}
    id = engine.create_run(compiled["mending"], pipeline="m", parameters=parameters, use_cache=False)
    assert engine.execute(id).state == "FAILED"
    assert words.read_text().startswith("FAILED|RuntimeError")
    before = tasks_of(database, id)
    switch.unlink()
    assert engine.retry(id) > 0
    finished = engine.execute(id)
    after = tasks_of(database, id)
    assert (finished.state, finished.outputs.parameters) == ("COMPLETE", {"Output": "end"})
    assert Counter(log.read_text().split()) == {"steady": 1, "a": 2, "b": 2}
    kept = [address for address, task in before.items() if task.state == "COMPLETE" and task.name != "last-words"]
    assert len(kept) == 4
    assert all(after[address].execution_id == before[address].execution_id for address in kept)
    assert words.read_text().startswith("SUCCEEDED|")
    with pytest.raises(Conflict, match="nothing to retry"):
        engine.retry(id)


def test_workers_take_what_an_engine_has_no_room_for(make_engine, database, compiled, tmp_path, in_background):
    stopping = threading.Event()
    helper = ProcessLauncher(preload=())
    worker = make_engine(database, launcher=helper, max_parallel=4, times=QUICK)
    in_background(worker.work, stopping)
    engine = make_engine(database, max_parallel=1, times=QUICK)

    def others():
        with database.session() as session:
            return living_workers(session, engine.place.lease_clock, "")

    wait_until(others)
    log = tmp_path / "log"
    id = engine.create_run(compiled["wide"], pipeline="w", parameters={"path": str(log)})
    try:
        assert engine.execute(id).state == "COMPLETE"
    finally:
        stopping.set()
    tasks = tasks_of(database, id)
    assert Counter(log.read_text().split()) == {f"n{index}": 1 for index in range(8)}
    assert all(task.attempt == 1 for task in tasks.values())
    assert len({task.owner for task in tasks.values()}) == 2
    helper.close()


def test_a_worker_takes_a_queued_run_and_an_engine_without_room_only_leads(
    make_engine, database, compiled, tmp_path, in_background
):
    stopping = threading.Event()
    launcher = ProcessLauncher(preload=())
    worker = make_engine(database, launcher=launcher, times=QUICK)
    in_background(worker.work, stopping)
    queued = worker.create_run(compiled["chain"], pipeline="c", parameters={"x": 5}, queued=True)

    def state(id):
        with database.read() as connection:
            return get_run(connection, id).state

    wait_until(lambda: state(queued) == "COMPLETE")
    leader = make_engine(database, max_parallel=0, times=QUICK)
    led = leader.create_run(compiled["chain"], pipeline="c", parameters={"x": 50})
    assert leader.execute(led).outputs.parameters == {"Output": 52}
    stopping.set()
    assert all(task.owner for task in tasks_of(database, led).values())
    launcher.close()


def test_what_a_superseded_engine_or_worker_records_is_refused(make_engine, database, compiled):
    engine = make_engine(database)
    id = engine.create_run(compiled["chain"], pipeline="c", parameters={})
    place, clock = engine.place, FixedClock()
    first = Presence(database, clock, place.work_folder, slots=1, times=QUICK)
    with first, database.write_session() as session:
        begun = place.journal.begin_run(session, id, first, clock)
        own(session, begun.run)
    with Presence(database, clock, place.work_folder, slots=1, times=QUICK) as second:
        with database.write_session() as session:
            assert place.journal.begin_run(session, id, second, clock).run.token == begun.run.token + 1
        with pytest.raises(LostLease), database.write_session() as session:
            own(session, begun.run)
        task = next(iter(tasks_of(database, id).values()))
        with database.write_session() as session:
            update_task(session, id, task.address, state="RUNNING", owner=second.id, attempt=2)
        with pytest.raises(LostLease), database.write_session() as session:
            check_attempt(session, task)


def test_a_worker_elsewhere_lives_until_its_lease_ends(make_engine, sqlite_database, tmp_path):
    clock = FixedClock()
    with Presence(sqlite_database, clock, tmp_path, slots=2, times=QUICK) as presence:
        with sqlite_database.write_session() as session:
            presence.register(session)
        with sqlite_database.session() as session:
            (worker,) = living_workers(session, clock, "")
        elsewhere = type(worker)(**{**{f: getattr(worker, f) for f in worker.__struct_fields__}, "host": "far"})
        assert is_alive(elsewhere, clock)
        clock.advance(2001)
        assert not is_alive(elsewhere, clock)
        assert is_alive(worker, clock), "on the same host the lock says that it lives"
    assert not is_alive(worker, clock)


def test_a_task_whose_worker_dies_runs_again_elsewhere(make_engine, sqlite_database, compiled, tmp_path, in_background):
    engine = make_engine(sqlite_database, max_parallel=1, times=QUICK)
    log = tmp_path / "log"
    id = engine.create_run(
        compiled["wide"], pipeline="w", parameters={"path": str(log), "items": [0, 1], "seconds": 0.5}
    )
    place = engine.place
    with Presence(sqlite_database, place.lease_clock, place.work_folder, slots=1, times=QUICK) as ghost:
        with sqlite_database.write_session() as session:
            ghost.register(session)
        in_background(engine.execute, id)

        def claim():
            from mainspring.pipelines.offers import claim_next

            with sqlite_database.write_session() as session:
                found = claim_next(session)
                if found is None:
                    return False
                _, task, _ = found
                update_task(session, id, task.address, state="RUNNING", owner=ghost.id, attempt=1)
                return True

        wait_until(claim)
    wait_until(lambda: {task.state for task in tasks_of(sqlite_database, id).values()} == {"COMPLETE"})
    assert Counter(log.read_text().split()) == {"n0": 1, "n1": 1}


def test_a_process_that_could_not_renew_stops_its_tasks_and_goes_on(
    make_engine, sqlite_database, compiled, tmp_path, monkeypatch
):
    times = LeaseTimes(lease=5.0, heartbeat=60.0, fence=0.3, poll=0.05)
    engine, log = make_engine(sqlite_database, times=times), tmp_path / "log"
    parameters = {"path": str(log), "seconds": 0.5, "items": [0]}
    id = engine.create_run(compiled["wide"], pipeline="w", parameters=parameters)
    renewed = []
    real = Presence.renew

    def renew(presence):
        renewed.append(1)
        real(presence)
        widen(presence)

    monkeypatch.setattr(Presence, "renew", renew)
    assert engine.execute(id).state == "COMPLETE"
    assert renewed
    assert log.read_text().split() == ["n0", "n0"]
    (task,) = tasks_of(sqlite_database, id).values()
    assert (task.attempt, task.failures) == (2, 0)


def widen(presence):
    """Let the process trust its lease from now on, as after a database came back."""
    presence._times = LeaseTimes(lease=5.0, heartbeat=60.0, fence=60.0, poll=0.05)


def test_of_many_engines_that_want_a_run_at_once_one_gets_it(make_engine, database, compiled, tmp_path):
    engine = make_engine(database)
    place, began = engine.place, threading.Barrier(6)
    url = database.engine.url.set(drivername=database.dialect).render_as_string(hide_password=False)
    for _ in range(3):
        id = engine.create_run(compiled["chain"], pipeline="c", parameters={})
        taken, refused = [], []

        def take(id=id, taken=taken, refused=refused):
            mine = connect(url)
            with Presence(mine, place.lease_clock, tmp_path, slots=1, times=QUICK) as presence:
                began.wait()
                try:
                    with mine.write_session() as session:
                        taken.append(place.journal.begin_run(session, id, presence, place.lease_clock).run.token)
                except Conflict:
                    refused.append(id)
                began.wait()
            mine.close()

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert (taken, len(refused)) == ([1], 5)
