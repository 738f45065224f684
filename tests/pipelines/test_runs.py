"""Pipelines compiled by kfp, run for real through the zygote."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from mainspring import lineage
from mainspring.core import Conflict, InvalidInput
from mainspring.pipelines import get_run, list_tasks, records
from mainspring.pipelines.leases import Presence


@pytest.fixture
def run(make_engine, sqlite_database, compiled):
    """Run a sample pipeline; return the run and its tasks by address."""

    def run(name, *, database=None, use_cache=False, **parameters):
        database = database or sqlite_database
        engine = make_engine(database)
        id = engine.create_run(compiled[name], pipeline=name, parameters=parameters, use_cache=use_cache)
        finished = engine.execute(id)
        with database.read() as connection:
            tasks = {task.address: task for task in list_tasks(connection, id)}
        return finished, tasks

    return run


def states(tasks):
    return {address: task.state for address, task in tasks.items()}


def test_a_chain_passes_values_on_and_is_recorded_on_both_databases(run, database):
    finished, tasks = run("chain", database=database, x=5)
    assert (finished.state, finished.error, finished.outputs.parameters) == ("COMPLETE", "", {"Output": 7})
    assert states(tasks) == {"add": "COMPLETE", "add-2": "COMPLETE"}
    with database.read() as connection:
        executions = lineage.executions_in(connection, "pipeline_run", finished.id)
        events = lineage.list_events(connection, newest_first=False)
    assert [execution.type for execution in executions] == ["pipeline_run", "task", "task"]
    assert all(execution.state == "COMPLETE" and execution.ended_at for execution in executions)
    assert executions[1].properties["parameters"] == {"x": 5}
    assert executions[1].actor == "ann"
    assert [event.type for event in events] == [
        "pipeline.run.started",
        "task.finished",
        "task.finished",
        "pipeline.run.finished",
    ]
    assert {event.cause for event in events[1:]} == {events[0].id}


def test_a_diamond_runs_each_task_once_after_its_producers(run, tmp_path):
    finished, _ = run("diamond", path=str(tmp_path / "log"))
    lines = (tmp_path / "log").read_text().split()
    assert finished.outputs.parameters == {"Output": 3}
    assert lines[0] == "top"
    assert sorted(lines[1:3]) == ["left", "right"]
    assert lines[3:] == ["bottom"]


def test_a_nested_pipeline_used_twice_keeps_its_tasks_apart(run):
    finished, tasks = run("nested")
    assert finished.outputs.parameters == {"Output": 23}
    assert tasks["inner/say"].outputs.parameters == {"Output": "z-2"}
    assert tasks["inner-2/say"].outputs.parameters == {"Output": "z-13"}


@pytest.mark.parametrize(
    ("n", "said"), [(1, {"if", "inner if", "after"}), (20, {"elif", "after"}), (5, {"else", "after"})]
)
def test_only_the_branch_whose_condition_holds_runs(run, n, said):
    finished, tasks = run("branches", n=n)
    done = {
        task.outputs.parameters["Output"] for task in tasks.values() if task.name != "add" and task.state == "COMPLETE"
    }
    assert finished.state == "COMPLETE"
    assert done == said
    assert set(states(tasks).values()) == {"COMPLETE", "SKIPPED"}


@pytest.mark.parametrize(("word", "said"), [("it's", "yes"), ("its", "no"), ("' == '", "no")])
def test_a_condition_compares_values_with_quotes_as_they_are(run, word, said):
    _, tasks = run("quoted", word=word)
    assert [t.outputs.parameters["Output"] for t in tasks.values() if t.state == "COMPLETE"] == [said]


@pytest.mark.parametrize(("word", "went"), [("go", True), ("x' or 'a'=='a", False), ("x' || true || 'a'=='a", False)])
def test_a_value_never_becomes_code(run, word, went):
    finished, tasks = run("injected", word=word)
    assert finished.state == "COMPLETE"
    assert states(tasks) == {"condition-1/say": "COMPLETE" if went else "SKIPPED"}


def test_a_failed_task_is_retried_as_often_as_it_asks(run, tmp_path, sqlite_database):
    finished, tasks = run("retried", path=str(tmp_path / "tries"))
    assert finished.outputs.parameters == {"Output": 3}
    assert (tasks["fail-until"].attempt, tasks["fail-until"].failures) == (3, 2)
    with sqlite_database.read() as connection:
        executions = lineage.executions_in(connection, "pipeline_run", finished.id)
    assert [execution.state for execution in executions[1:]] == ["FAILED", "FAILED", "COMPLETE"]


def test_retries_end_with_the_last_error(run, tmp_path):
    finished, tasks = run("retried", path=str(tmp_path / "tries"), attempts=9)
    assert finished.state == "FAILED"
    assert finished.error == "Task fail-until failed: RuntimeError: attempt 3"
    assert tasks["fail-until"].attempt == 3


def test_a_failed_branch_stops_only_what_depends_on_it(run, tmp_path, make_engine, sqlite_database):
    finished, tasks = run("failing", path=str(tmp_path / "log"))
    assert finished.state == "FAILED"
    assert "ValueError: the sea is\nfull" in finished.error
    assert states(tasks) == {"fail": "FAILED", "add": "SKIPPED", "note": "COMPLETE"}
    assert tasks["add"].error == "task fail before it failed"
    log = make_engine(sqlite_database).task_log(finished.id, "fail").read_text()
    assert log.splitlines()[-2:] == ["ValueError: the sea is", "full"]


def test_a_task_may_ignore_the_failure_before_it(run, tmp_path):
    finished, tasks = run("ignoring", path=str(tmp_path / "log"))
    assert finished.state == "FAILED"
    assert tasks["note"].outputs.parameters == {"Output": 1}


def test_an_exit_task_sees_the_real_error(run, tmp_path):
    finished, tasks = run("exiting", path=str(tmp_path / "words"))
    assert finished.state == "FAILED"
    assert (tmp_path / "words").read_text() == "FAILED|ValueError: boom"
    assert tasks["last-words"].state == "COMPLETE"


@pytest.mark.parametrize(("n", "said"), [(1, "one"), (2, "other")])
def test_oneof_takes_the_branch_that_ran(run, n, said):
    finished, _ = run("oneof", n=n)
    assert finished.outputs.parameters == {"Output": said}


def test_values_keep_their_types_at_every_depth(run):
    _, tasks = run("values")
    seen = "(1, 2.5, True, 'it\\'s \"x\"', [1, 2], {'a': 1, 'b': 2}, None)"
    assert tasks["types"].outputs.parameters["repr"] == seen
    assert "[1, 2], {'a': 1, 'b': 2}" in tasks["types-2"].outputs.parameters["repr"]
    assert tasks["types-2"].inputs.parameters["s"] == f'<it\'s "x"|{seen}>'


def test_artifacts_are_stored_by_content_and_tasks_get_copies(run, sqlite_database, blobs):
    finished, tasks = run("artifacts")
    data = tasks["make-file"].outputs.artifacts["data"]
    assert finished.outputs.parameters == {"Output": "ABC"}
    assert tasks["make-folder"].outputs.parameters == {"Output": "3"}
    assert blobs.read(data.digest) == b"abc"
    with sqlite_database.read() as connection:
        edges = lineage.edges_of(connection, tasks["make-folder"].execution_id)
    assert [(edge.kind, edge.path, edge.artifact.type) for edge in edges] == [
        ("INPUT", "data", "system.Dataset"),
        ("OUTPUT", "model", "system.Model"),
    ]
    assert edges[0].artifact.id == data.id
    assert edges[0].artifact.properties["metadata"] == {"rows": 3}


def test_an_artifact_may_refer_to_bytes_that_are_stored_already(run, blobs):
    digest = blobs.put(b"a manifest")
    finished, tasks = run("referenced", digest=digest)
    assert finished.outputs.parameters == {"Output": f"{digest} False"}
    assert tasks["refer"].outputs.artifacts["data"].digest == digest


def test_independent_tasks_run_in_parallel(run, tmp_path):
    finished, tasks = run("sleeping", path=str(tmp_path / "log"))
    assert finished.state == "COMPLETE"
    assert max(task.started_at for task in tasks.values()) < min(task.ended_at for task in tasks.values())


def test_a_task_knows_who_it_is(make_engine, sqlite_database, compiled):
    engine = make_engine(sqlite_database, task_environment={"COLOUR": "red"})
    id = engine.create_run(compiled["context"], pipeline="context", parameters={})
    seen = engine.execute(id).outputs.parameters["Output"]
    with sqlite_database.read() as connection:
        (task,) = list_tasks(connection, id)
        event = get_run(connection, id).started_event
    assert (seen["COLOUR"], seen["OWN"], seen["MAINSPRING_TASK"]) == ("red", "mine", "look-around")
    assert (seen["MAINSPRING_RUN_ID"], seen["MAINSPRING_EXECUTION_ID"]) == (id, task.execution_id)
    assert json.loads(seen["MLFLOW_RUN_CONTEXT"]) == {
        "mainspring.pipeline_run_id": id,
        "mainspring.execution_id": task.execution_id,
        "mainspring.task": "look-around",
        "mainspring.event": event,
    }
    assert "looking around" in engine.task_log(id, "look-around").read_text()
    assert "COLOUR" not in os.environ


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("kill", "The task was killed by signal 9 (SIGKILL)."),
        ("exit", "The task called sys.exit(3)."),
        ("refuse", "Refused: An anomaly was found."),
    ],
)
def test_however_a_task_dies_its_error_says_how(run, how, error):
    finished, _ = run("dying", how=how)
    assert finished.error == f"Task die failed: {error}"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("container", ["task shell", "container image", "alpine:3"]),
        ("needy", ["task wants-more", "numpy>=999", "no-such-distribution-x"]),
    ],
)
def test_what_cannot_run_is_refused_before_anything_starts(make_engine, sqlite_database, compiled, name, parts):
    with pytest.raises(InvalidInput) as refused:
        make_engine(sqlite_database).create_run(compiled[name], pipeline=name, parameters={})
    assert all(part in refused.value.message for part in parts)
    assert "numpy>=1.0" not in refused.value.message


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"x": "1"}, "parameter 'x': \"1\" is not a whole number"), ({"z": 1}, "no parameter 'z'")],
)
def test_arguments_that_do_not_fit_are_refused(make_engine, sqlite_database, compiled, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        make_engine(sqlite_database).create_run(compiled["chain"], pipeline="chain", parameters=parameters)


def test_two_engines_never_execute_the_same_run(make_engine, database, compiled):
    engine = make_engine(database)
    id = engine.create_run(compiled["chain"], pipeline="chain", parameters={})
    place = engine.place
    with Presence(database, place.lease_clock, place.work_folder, slots=1, times=place.times) as other:
        with database.write_session() as session:
            place.journal.begin_run(session, id, other, place.lease_clock)
        with pytest.raises(Conflict, match="another process"):
            make_engine(database).execute(id)
    assert engine.execute(id).state == "COMPLETE"


def test_progress_counts_tasks(make_engine, sqlite_database, compiled):
    engine = make_engine(sqlite_database)
    id = engine.create_run(compiled["chain"], pipeline="chain", parameters={})
    seen = []
    engine.execute(id, on_progress=seen.append)
    assert [(item.address, item.state, item.finished, item.total) for item in seen] == [
        ("add", "RUNNING", 0, 2),
        ("add", "COMPLETE", 1, 2),
        ("add-2", "RUNNING", 1, 2),
        ("add-2", "COMPLETE", 2, 2),
    ]
    assert Counter(item.run_id for item in seen) == {id: 4}
    assert engine.execute(id).state == "COMPLETE"
    assert isinstance(Path(engine.task_log(id, "add")), Path)


def test_the_columns_of_the_records_are_those_of_their_tables():
    from sqlalchemy import JSON

    from mainspring.db.tables.pipelines import pipeline_run, pipeline_task

    assert set(records.RUN_COLUMNS) == set(pipeline_run.columns.keys())
    assert set(records.TASK_COLUMNS) == set(pipeline_task.columns.keys())
    columns = [*pipeline_run.columns, *pipeline_task.columns]
    assert {column.name for column in columns if isinstance(column.type, JSON)} == records.DOCUMENTS
