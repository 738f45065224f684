from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from mainspring.automation import scheduler
from mainspring.automation.arrivals import take_arrivals
from mainspring.automation.policies import LastTraining
from mainspring.automation.retraining import consider_retraining, decide_what_is_left, last_training
from mainspring.automation.scheduler import Attempts, SchedulerState, read_state, write_state
from mainspring.automation.training import pin_parameters
from mainspring.automation.triggers import enqueue, list_triggers
from mainspring.automation.watching import measure_due_windows
from mainspring.core import FixedClock, InvalidInput, NotFound
from mainspring.core.project import MonitorConfig
from mainspring.db.tables.pipelines import pipeline_run
from mainspring.lineage import Store, list_events
from mainspring.serving import PredictionRecord
from mainspring.serving.log import SegmentLog

WEEK = 7 * 86_400_000


def deliver(store: Store, name: str, start: int) -> None:
    folder = store.folder / "incoming"
    folder.mkdir(exist_ok=True)
    pl.DataFrame({"at": [start, start + 1], "x": [0.5, None]}).write_parquet(folder / name)


def test_every_arrival_is_taken_once_in_order(store: Store) -> None:
    deliver(store, "b.parquet", 2)
    deliver(store, "a.parquet", 1)
    first, second = take_arrivals(store)
    assert (first.parts, second.parts, second.parent) == (1, 2, first.id)
    assert take_arrivals(store) == []
    deliver(store, "c.parquet", 3)
    assert [snapshot.parts for snapshot in take_arrivals(store)] == [3]


def test_a_broken_file_is_named_and_nothing_is_lost(store: Store) -> None:
    deliver(store, "a.parquet", 1)
    take_arrivals(store)
    (store.folder / "incoming" / "b.parquet").write_text("not parquet")
    with pytest.raises(InvalidInput, match=r"b\.parquet"):
        take_arrivals(store)
    deliver(store, "c.parquet", 2)
    with pytest.raises(InvalidInput, match=r"b\.parquet"):
        take_arrivals(store)
    deliver(store, "b.parquet", 3)
    assert [snapshot.parts for snapshot in take_arrivals(store)] == [3]


def test_moving_names_are_pinned(store: Store, register: Any) -> None:
    deliver(store, "a.parquet", 1)
    (snapshot,) = take_arrivals(store)
    pinned = pin_parameters(
        store, {"snapshot": "dataset://flights/latest", "champion": "models:/m@champion", "trees": 3}
    )
    assert pinned == {"snapshot": f"dataset://flights/{snapshot.id}", "champion": "", "trees": 3}


def test_a_dataset_without_snapshots_cannot_be_pinned(store: Store) -> None:
    with pytest.raises(InvalidInput, match="no snapshot yet"):
        pin_parameters(store, {"snapshot": "dataset://flights/latest"})


def log_requests(store: Store, clock: FixedClock) -> None:
    log = SegmentLog(store.settings.endpoint_folder("e") / "predictions", clock)
    log.append(
        [
            PredictionRecord(
                id="r1", received_at=clock.now_ms(), latency_ms=1.0, endpoint="e", revision=1, variant="champion",
                shadow=False, model="m", version="1", digest="", protocol="v2", status=200, rows=2,
                inputs={"x": [0.1, 0.2]}, outputs=[0.3, 0.4],
            )
        ]
    )  # fmt: skip
    log.close()


def test_a_window_is_measured_once_when_it_has_waited_for_its_labels(store: Store, clock: FixedClock) -> None:
    assert list(measure_due_windows(store, "w")) == []
    log_requests(store, clock)
    clock.advance(WEEK)
    assert list(measure_due_windows(store, "w")) == []
    clock.advance(12 * 3_600_000)
    (measured,) = measure_due_windows(store, "w")
    assert (measured.rows, measured.labelled) == (2, 0)
    assert list(measure_due_windows(store, "w")) == []


def test_a_policy_says_why_it_did_not_fire(store: Store, clock: FixedClock) -> None:
    log_requests(store, clock)
    clock.advance(WEEK + 12 * 3_600_000)
    (measured,) = measure_due_windows(store, "w")
    assert consider_retraining(store, measured) == []
    with store.database.read() as connection:
        (event,) = list_events(connection, types=("trigger.skipped",))
        assert list_triggers(connection) == []
    assert "labels" in event.data["reason"]
    assert event.cause == measured.event


def test_a_training_started_by_hand_counts_as_the_last_one(store: Store, clock: FixedClock) -> None:
    def add_run(id: str, state: str) -> None:
        with store.database.write() as connection:
            connection.execute(
                sa.insert(pipeline_run).values(
                    id=id,
                    pipeline="train",
                    name="train",
                    state=state,
                    actor="ada",
                    ir_digest="sha256:0",
                    use_cache=True,
                    created_at=clock.now_ms(),
                    parameters={},
                    code={},
                    outputs={},
                    warnings=[],
                )
            )

    def last() -> LastTraining | None:
        with store.database.read() as connection:
            return last_training(connection, "train")

    assert last() is None
    with store.database.write() as connection:
        trigger = enqueue(connection, clock, kind="schedule", pipeline="train", reason="it is time")
    assert trigger is not None
    assert last() == LastTraining(until=trigger.created_at)
    clock.advance(1000)
    add_run("01", "FAILED")
    assert last() == LastTraining(until=trigger.created_at)
    add_run("02", "COMPLETE")
    assert last() == LastTraining(until=clock.now_ms(), run_id="02")


def test_a_window_measured_just_before_a_crash_is_decided_on_afterwards(store: Store, clock: FixedClock) -> None:
    log_requests(store, clock)
    clock.advance(WEEK + 12 * 3_600_000)
    (measured,) = measure_due_windows(store, "w")  # and then the scheduler is killed
    for _ in range(2):
        decide_what_is_left(store)
    with store.database.read() as connection:
        (event,) = list_events(connection, types=("trigger.skipped",))
    assert event.cause == measured.event


def test_monitors_start_with_the_first_record_or_as_told(store: Store, clock: FixedClock) -> None:
    from mainspring.automation.watching import window_start

    config = MonitorConfig(endpoint="e")
    assert window_start(store, config) is None
    clock.advance(5 * 3_600_000)
    log_requests(store, clock)
    assert window_start(store, config) == clock.now_ms() - 5 * 3_600_000


def test_a_pass_looks_at_one_moment_even_if_time_goes_on(
    store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that comes in while a pass is under way must not be missed by what the same pass decides."""
    (store.settings.home / "logs").mkdir()
    start, seen = clock.now_ms(), []

    def arrive(at: Store) -> list[object]:
        clock.advance(1)
        return []

    def measure(at: Store) -> bool:
        seen.append(at.clock.now_ms())
        os.kill(os.getpid(), signal.SIGTERM)
        return False

    monkeypatch.setattr(scheduler, "take_arrivals", arrive)
    monkeypatch.setattr(scheduler.Rollouts, "reconcile", lambda rollouts: measure(rollouts._store))
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        scheduler.run_scheduler(store)
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    assert seen == [start]
    state = read_state(store.settings.home / "scheduler.json")
    assert state is not None
    assert (state.reconciled_at, state.idle) == (start, False)


def test_one_stage_that_fails_does_not_stop_the_others() -> None:
    def fail() -> bool:
        raise NotFound("gone")

    def break_down() -> bool:
        raise ZeroDivisionError

    attempt = Attempts()
    assert attempt("x", fail)
    assert attempt("y", break_down)
    assert not attempt("z", lambda: False)


def test_a_stage_that_keeps_failing_is_told_once_and_its_recovery_too(caplog: pytest.LogCaptureFixture) -> None:
    problems = ["gone", "gone", "gone", "lost", ""]

    def work() -> bool:
        if problem := problems.pop(0):
            raise NotFound(problem)
        return False

    attempt = Attempts()
    with caplog.at_level("INFO", logger="mainspring.scheduler"):
        while problems:
            attempt("x", work)
    told = [record.getMessage().split("stage=x")[-1] for record in caplog.records]
    assert [("gone" in text, "lost" in text) for text in told] == [(True, False), (False, True), (False, False)]
    assert "stage.recovered" in caplog.records[-1].getMessage()


def test_the_state_file_tells_where_the_scheduler_is(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    assert read_state(path) is None
    write_state(path, SchedulerState(1, 2, True))
    assert read_state(path) == SchedulerState(1, 2, True)
    path.write_text("{")
    assert read_state(path) is None
