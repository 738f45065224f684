from __future__ import annotations

import pytest

from mainspring.core import FixedClock, NotFound
from mainspring.db import Database
from mainspring.lineage import (
    add_edge,
    edges_of,
    end_execution,
    executions_in,
    executions_of,
    find_artifacts,
    get_execution,
    list_events,
    put_artifact,
    put_context,
    record_event,
    start_execution,
    trace_cause,
)


def test_the_graph_can_be_walked_both_ways(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        run = put_context(connection, clock, type="pipeline_run", name="r1")
        data = put_artifact(connection, clock, type="Dataset", name="d", uri="dataset://d/1", digest="sha256:1")
        task = start_execution(
            connection, clock, type="task", name="train", actor="ann", properties={"a": 1}, contexts=(run,)
        )
        model = put_artifact(connection, clock, type="Model", name="m", uri="models:/m/1")
        add_edge(connection, task, data, "INPUT", "data")
        add_edge(connection, task, model, "OUTPUT", "model")
        clock.advance(5)
        end_execution(connection, clock, task, "COMPLETE", properties={"b": 2})
    with database.read() as connection:
        found = get_execution(connection, task)
        assert (found.state, found.actor, found.ended_at - found.started_at) == ("COMPLETE", "ann", 5)
        assert found.properties == {"a": 1, "b": 2}
        assert [(edge.kind, edge.path, edge.artifact.name) for edge in edges_of(connection, task)] == [
            ("INPUT", "data", "d"),
            ("OUTPUT", "model", "m"),
        ]
        assert [execution.id for execution in executions_of(connection, model, "OUTPUT")] == [task]
        assert executions_of(connection, model, "INPUT") == []
        assert [execution.id for execution in executions_in(connection, "pipeline_run", "r1")] == [task]
        assert [artifact.id for artifact in find_artifacts(connection, digest="sha256:1", type="Dataset")] == [data]


def test_a_context_is_made_once(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        assert put_context(connection, clock, type="t", name="n") == put_context(connection, clock, type="t", name="n")


def test_an_unknown_execution_is_not_found(database: Database) -> None:
    with database.read() as connection, pytest.raises(NotFound, match="nope"):
        get_execution(connection, "nope")


def test_a_transaction_that_fails_leaves_no_trace(database: Database, clock: FixedClock) -> None:
    def write_and_fail() -> None:
        with database.write() as connection:
            record_event(connection, clock, "a.b", source="s", subject="x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    with database.read() as connection:
        assert list_events(connection) == []


def test_events_keep_their_order_and_their_causes(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        first = record_event(connection, clock, "monitor.window.measured", source="m", subject="w", data={"n": 1})
        second = record_event(connection, clock, "trigger.fired", source="p", subject="t", cause=first)
        third = record_event(connection, clock, "trigger_x", source="p", subject="t", cause=second)
    with database.read() as connection:
        events = list_events(connection)
        assert [event.id for event in events] == [first, second, third]
        assert [event.id for event in list_events(connection, after=events[0].sequence)] == [second, third]
        assert [event.id for event in list_events(connection, types=("trigger.",))] == [second]
        assert [event.id for event in list_events(connection, newest_first=True, limit=1)] == [third]
        assert [event.id for event in trace_cause(connection, third)] == [third, second, first]
        assert events[0].data == {"n": 1}
