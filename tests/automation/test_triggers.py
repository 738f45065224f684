from __future__ import annotations

import pytest

from mainspring.automation import (
    Trigger,
    active_trigger,
    attach_run,
    claim_next,
    enqueue,
    finish,
    get_trigger,
    list_triggers,
    skip,
)
from mainspring.core import Conflict, NotFound
from mainspring.lineage import get_event, list_events


def queue(connection, clock, pipeline: str = "p", **changes: object) -> Trigger | None:
    fields = {"kind": "performance", "reason": "It got worse.", "policy": "weekly", "evidence": {"excess": 310.5}}
    return enqueue(connection, clock, pipeline=pipeline, **{**fields, **changes})


def test_a_trigger_is_queued_claimed_and_done(database, clock):
    with database.write() as connection:
        queued = queue(connection, clock, cause="window-event")
        assert get_trigger(connection, queued.id) == queued
        assert (queued.state, queued.evidence) == ("PENDING", {"excess": 310.5})
        event = get_event(connection, queued.event)
        assert (event.type, event.subject, event.cause) == ("trigger.fired", "p", "window-event")
        assert event.data["reason"] == "It got worse."
    clock.advance(5)
    with database.write() as connection:
        claimed = claim_next(connection, clock)
        assert (claimed.id, claimed.state, claimed.started_at) == (queued.id, "RUNNING", clock.now_ms())
        assert claim_next(connection, clock) is None
        attach_run(connection, claimed.id, "run-1")
    clock.advance(5)
    with database.write() as connection:
        finish(connection, clock, queued.id, "DONE")
        done = get_trigger(connection, queued.id)
    assert (done.state, done.run_id, done.ended_at) == ("DONE", "run-1", clock.now_ms())


def test_a_pipeline_has_one_trigger_at_a_time_and_the_second_is_recorded_as_skipped(database, clock):
    with database.write() as connection:
        first = queue(connection, clock)
        clock.advance(1)
        assert queue(connection, clock, kind="schedule", reason="It is time.") is None
        assert queue(connection, clock, pipeline="other") is not None
        (skipped,) = list_events(connection, types=("trigger.skipped",))
        assert skipped.data["reason"].startswith("It is time. Skipped: trigger")
        assert skipped.data["kind"] == "schedule"
        claim_next(connection, clock)
        assert queue(connection, clock) is None
        finish(connection, clock, first.id, "FAILED", run_id="run-9")
        again = queue(connection, clock)
        assert active_trigger(connection, "p") == again
        assert get_trigger(connection, first.id).run_id == "run-9"


def test_the_database_itself_refuses_a_second_active_trigger(database, clock, monkeypatch):
    from mainspring.automation import triggers

    with database.write() as connection:
        queue(connection, clock)
    monkeypatch.setattr(triggers, "active_trigger", lambda *_: None)  # as another process sees it a moment earlier
    with pytest.raises(Conflict, match="same moment"), database.write() as connection:
        queue(connection, clock)


def test_the_oldest_trigger_is_claimed_first(database, clock):
    with database.write() as connection:
        for pipeline in ("b", "a", "c"):
            queue(connection, clock, pipeline=pipeline)
            clock.advance(1)
        assert [claim_next(connection, clock).pipeline for _ in range(3)] == ["b", "a", "c"]
        assert [t.pipeline for t in list_triggers(connection)] == ["c", "a", "b"]
        assert [t.pipeline for t in list_triggers(connection, pipeline="a", states=["RUNNING"])] == ["a"]
        assert list_triggers(connection, states=["DONE"]) == []


def test_only_a_running_trigger_can_end(sqlite_database, clock):
    with sqlite_database.write() as connection:
        queued = queue(connection, clock)
        with pytest.raises(Conflict, match="PENDING"):
            finish(connection, clock, queued.id, "DONE")
        with pytest.raises(Conflict, match="PENDING"):
            attach_run(connection, queued.id, "r")
        with pytest.raises(NotFound):
            finish(connection, clock, "nothing", "DONE")


def test_a_decision_not_to_fire_is_recorded_with_its_reason(sqlite_database, clock):
    with sqlite_database.write() as connection:
        id = skip(connection, clock, kind="none", pipeline="p", policy="weekly", reason="Not yet.", cause="w")
        event = get_event(connection, id)
    assert (event.type, event.subject, event.cause, event.data["reason"]) == ("trigger.skipped", "p", "w", "Not yet.")
