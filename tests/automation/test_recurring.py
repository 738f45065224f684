"""Schedules on a real store: every time one run, also when a crash comes in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mainspring.automation.macros import Macros
from mainspring.automation.recurring import fire_schedules
from mainspring.automation.schedule_store import (
    count_firings,
    delete_schedule,
    get_schedule,
    list_firings,
    list_schedules,
    put_schedule,
    set_state,
)
from mainspring.automation.schedules import Schedule
from mainspring.automation.triggers import list_triggers
from mainspring.core import FixedClock, InvalidInput, NotFound, Unavailable
from mainspring.core.project import PipelineConfig, Project, ScheduleConfig
from mainspring.core.settings import resolve_settings
from mainspring.lineage import Store, list_events

HOUR = 3_600_000
START = 1_767_225_600_000  # 2026-01-01


@pytest.fixture
def store(database, blobs, tmp_path):
    pipelines = {"train": PipelineConfig(file="p.py", function="f")}
    project = Project(project="p", pipelines=pipelines)
    settings = resolve_settings(tmp_path)
    return Store(
        settings=settings, project=project, database=database, blobs=blobs, clock=FixedClock(START), actor="ann"
    )


def with_schedules(store, **schedules):
    return replace(store, project=Project(project="p", pipelines=store.project.pipelines, schedules=schedules))


class Runs:
    """Records runs as the engine would: a row with its cause."""

    def __init__(self, store):
        self.store, self.made, self.fails = store, [], False

    def __call__(self, schedule, parameters, event):
        if self.fails:
            raise Unavailable("the process was killed")
        self.made.append((schedule.name, parameters))
        return insert_run(self.store, event)


def insert_run(store, event):
    from mainspring.core import new_id
    from mainspring.pipelines import PipelineRun, Values
    from mainspring.pipelines.records import insert_run as insert

    run = PipelineRun(
        id=new_id(store.clock), pipeline="k", name="k", state="COMPLETE", actor="a", cause=event, ir_digest="x",
        use_cache=True, execution_id=None, started_event=None, error="", created_at=store.clock.now_ms(),
        started_at=None, ended_at=None, parameters={}, code={}, outputs=Values(), warnings=(),
    )  # fmt: skip
    with store.database.write() as connection:
        insert(connection, run, [])
    return run.id


def kfp_schedule(store, **changes):
    given = {"cron": "0 * * * *", "max_concurrent": 5}
    with store.database.write() as connection:
        return put_schedule(
            connection, store.clock, name="hourly", source="kfp", pipeline="k", timing=Schedule(**{**given, **changes}),
            parameters={"at": "[[ScheduledTime]]", "deep": [{"n": "run [[Index]]"}], "k": 3}, ir_digest="sha256:0",
        )  # fmt: skip


def test_a_schedule_of_the_project_fires_its_trigger(store):
    store = with_schedules(store, nightly=ScheduleConfig(pipeline="train", cron="0 2 * * *", time_zone="Europe/Berlin"))
    assert not fire_schedules(store)
    store.clock.advance(HOUR)
    assert fire_schedules(store)
    assert not fire_schedules(store)
    with store.database.read() as connection:
        [trigger] = list_triggers(connection)
    assert (trigger.kind, trigger.pipeline, trigger.policy) == ("schedule", "train", "nightly")
    assert trigger.reason == "The schedule nightly was due at 2026-01-01T01:00:00Z."


def test_while_its_pipeline_runs_a_schedule_waits(store):
    store = with_schedules(store, hourly=ScheduleConfig(pipeline="train", every="60m", catch_up=True))
    fire_schedules(store)
    store.clock.advance(3 * HOUR)
    assert fire_schedules(store)
    assert not fire_schedules(store)
    with store.database.read() as connection:
        assert len(list_triggers(connection)) == 1
        assert get_schedule(connection, "hourly").last_due == START + HOUR


def test_the_file_decides_what_schedules_there_are(store):
    first = with_schedules(store, a=ScheduleConfig(pipeline="train", every="1h"))
    fire_schedules(first)
    store.clock.advance(HOUR // 2)
    fire_schedules(with_schedules(store, a=ScheduleConfig(pipeline="train", every="2h")))
    with store.database.read() as connection:
        [found] = list_schedules(connection)
        assert found.next_due == START + HOUR // 2 + 2 * HOUR
    fire_schedules(store)
    with store.database.read() as connection:
        assert list_schedules(connection) == []


def test_each_time_makes_one_run_with_its_macros_filled(store):
    kfp_schedule(store)
    runs = Runs(store)
    store.clock.advance(2 * HOUR + 5000)
    fire_schedules(store, runs)
    fire_schedules(store, runs)
    assert [given["at"] for _, given in runs.made] == ["20260101010000", "20260101020000"]
    assert runs.made[0][1]["k"] == 3
    with store.database.read() as connection:
        assert len([event for event in list_events(connection) if event.type == "trigger.fired"]) == 2


def test_after_a_crash_between_the_record_and_the_run_the_run_is_made_once(store):
    made = kfp_schedule(store)
    store.clock.advance(HOUR)

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fire_schedules(store, killed)
    runs = Runs(store)
    fire_schedules(store, runs)
    fire_schedules(store, runs)
    assert len(runs.made) == 1
    with store.database.read() as connection:
        assert count_firings(connection, made.id) == 1
        assert list_firings(connection, unsettled=True) == []


def test_after_a_crash_between_the_run_and_its_note_the_run_is_found(store):
    made = kfp_schedule(store)
    store.clock.advance(HOUR)

    def killed_after(_schedule, _parameters, event):
        insert_run(store, event)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fire_schedules(store, killed_after)
    runs = Runs(store)
    fire_schedules(store, runs)
    assert runs.made == []
    with store.database.read() as connection:
        [firing] = list_firings(connection, schedule_id=made.id)
    assert firing.run_id


def test_a_run_that_cannot_be_made_raises_an_alert_once_and_the_schedule_goes_on(store):
    kfp_schedule(store)
    runs = Runs(store)
    runs.fails = True
    store.clock.advance(HOUR)
    fire_schedules(store, runs)
    fire_schedules(store, runs)
    runs.fails = False
    store.clock.advance(HOUR)
    fire_schedules(store, runs)
    assert len(runs.made) == 1
    with store.database.read() as connection:
        assert len([event for event in list_events(connection) if event.type == "alert.raised"]) == 1


def test_a_paused_schedule_is_not_due_and_without_catching_up_goes_on_from_now(store):
    made = kfp_schedule(store, catch_up=False)
    with store.database.write() as connection:
        assert set_state(connection, store.clock, "hourly", "PAUSED").next_due is None
    store.clock.advance(3 * HOUR + 1)
    runs = Runs(store)
    assert not fire_schedules(store, runs)
    with store.database.write() as connection:
        assert set_state(connection, store.clock, made.id, "ENABLED").next_due == START + 4 * HOUR
    assert not fire_schedules(store, runs)


def test_missed_times_are_said(store):
    kfp_schedule(store, catch_up=False)
    store.clock.advance(5 * HOUR)
    fire_schedules(store, Runs(store))
    with store.database.read() as connection:
        [event] = [event for event in list_events(connection) if event.type == "schedule.missed"]
    assert event.data == {"schedule": "hourly", "missed": 4}


def test_what_is_no_schedule_is_refused(store):
    with pytest.raises(InvalidInput):
        kfp_schedule(store, cron="never")
    with store.database.write() as connection, pytest.raises(NotFound):
        delete_schedule(connection, "nope")


def test_every_time_of_a_catch_up_has_an_index_of_its_own(store):
    kfp_schedule(store)
    runs = Runs(store)
    store.clock.advance(3 * HOUR)
    fire_schedules(store, runs)
    store.clock.advance(HOUR)
    fire_schedules(store, runs)
    assert [given["deep"][0]["n"] for _, given in runs.made] == ["run 1", "run 2", "run 3", "run 4"]


def test_a_name_that_two_schedules_have_is_not_enough(store):
    first, second = kfp_schedule(store), kfp_schedule(store)
    with store.database.write() as connection:
        with pytest.raises(InvalidInput, match="2 schedules are called 'hourly'") as caught:
            set_state(connection, store.clock, "hourly", "PAUSED")
        assert first.id in caught.value.hint
        assert second.id in caught.value.hint
        assert set_state(connection, store.clock, second.id, "PAUSED").state == "PAUSED"
        assert get_schedule(connection, first.id).state == "ENABLED"


def test_macros_are_filled_at_every_depth_and_nothing_else_is_touched():
    given = {"a": ["[[CurrentTime]]", 1, None], "b": "[[Index]]-[[Unknown]]", "c": "[[Index.2006]] [[]]"}
    assert Macros(due_at=START, now=START + HOUR, index=4).fill(given) == {
        "a": ["20260101010000", 1, None], "b": "4-[[Unknown]]", "c": "[[Index.2006]] [[]]",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("[[ScheduledTime.2006-01-02]]", "2026-01-01"),
        ("gs://b/[[ScheduledTime.2006/01/02/15-04-05]]/x", "gs://b/2026/01/01/00-00-00/x"),
        ("[[CurrentTime.Mon Jan 02 15:04:05 MST 2006]]", "Thu Jan 01 01:00:00 UTC 2026"),
        ("[[CurrentTime.06.002 03PM Z07:00 %Y]]", "26.001 01AM Z %Y"),
        ("[[ScheduledTime]][[Index]]", "202601010000004"),
    ],
)
def test_a_time_is_written_in_the_layout_it_asks_for(text, filled):
    assert Macros(due_at=START, now=START + HOUR, index=4).fill({"x": text}) == {"x": filled}
