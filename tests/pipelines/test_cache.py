"""The content-keyed cache: hits, misses, and bytes that were edited."""

from __future__ import annotations

import msgspec
import pytest

from mainspring import lineage
from mainspring.pipelines import list_tasks
from mainspring.pipelines.cache import cache_key
from mainspring.pipelines.ir import read_pipeline
from mainspring.pipelines.plan import Retry
from mainspring.pipelines.planner import make_plan
from mainspring.pipelines.schedule import ReadyTask
from mainspring.pipelines.values import Values


@pytest.fixture
def states(make_engine, sqlite_database, compiled):
    """Run a sample and return the state of each task."""

    def run(name, *, use_cache=True, **parameters):
        engine = make_engine(sqlite_database)
        id = engine.create_run(compiled[name], pipeline=name, parameters=parameters, use_cache=use_cache)
        engine.execute(id)
        with sqlite_database.read() as connection:
            return {task.address: task for task in list_tasks(connection, id)}

    return run


def test_the_same_work_is_not_done_twice(states, sqlite_database):
    first = states("artifacts", text="abc")
    again = states("artifacts", text="abc")
    assert {task.state for task in first.values()} == {"COMPLETE"}
    assert {task.state for task in again.values()} == {"CACHED"}
    assert again["read-folder"].outputs == first["read-folder"].outputs
    assert again["make-file"].cached_from == first["make-file"].execution_id
    with sqlite_database.read() as connection:
        edges = lineage.edges_of(connection, again["make-folder"].execution_id)
        state = lineage.get_execution(connection, again["make-folder"].execution_id).state
    assert state == "CACHED"
    assert {edge.artifact.id for edge in edges} == {
        first["make-file"].outputs.artifacts["data"].id,
        first["make-folder"].outputs.artifacts["model"].id,
    }


def test_a_result_that_took_several_attempts_is_used_again(states, tmp_path):
    path = str(tmp_path / "tries")
    first = states("retried", path=path, attempts=3)
    again = states("retried", path=path, attempts=3)
    assert [(task.state, task.attempt) for task in first.values()] == [("COMPLETE", 3)]
    assert [(task.state, task.attempt) for task in again.values()] == [("CACHED", 0)]
    assert [task.outputs for task in again.values()] == [task.outputs for task in first.values()]


def test_what_a_container_gets_by_default_is_part_of_its_key():
    def key(default: int) -> str:
        inputs = {"parameters": {"x": {"parameterType": "NUMBER_INTEGER", "defaultValue": default}}}
        container = {"image": "i", "command": ["echo", "{{$.inputs.parameters['x']}}"]}
        document = {
            "pipelineInfo": {"name": "p"},
            "components": {"c": {"executorLabel": "e", "inputDefinitions": inputs}},
            "deploymentSpec": {"executors": {"e": {"container": container}}},
            "root": {"dag": {"tasks": {"a": {"componentRef": {"name": "c"}}}}},
        }
        task = make_plan(read_pipeline(msgspec.json.encode(document))).root.tasks["a"]
        ready = ReadyTask(address="a", task=task, inputs=Values(), given={}, retry=Retry(), caches=True)
        return cache_key(ready, {})

    assert key(1) == key(1) != key(2)


def test_other_parameters_or_no_cache_run_again(states):
    states("chain", x=1)
    assert [task.state for task in states("chain", x=10).values()] == ["COMPLETE", "COMPLETE"]
    assert [task.state for task in states("chain", x=1, use_cache=False).values()] == ["COMPLETE", "COMPLETE"]
    assert [task.state for task in states("chain", x=1).values()] == ["CACHED", "CACHED"]


def test_edited_bytes_are_never_served(states, blobs, tmp_path):
    path = str(tmp_path / "log")
    first = states("edited", path=path)
    stored = blobs.path(first["make-file"].outputs.artifacts["data"].digest)
    stored.chmod(0o644)
    stored.write_bytes(b"abX")
    again = states("edited", path=path)
    assert again["make-file"].state == "COMPLETE"
    assert again["seen-file"].outputs.parameters == {"Output": "abc"}
    assert blobs.read(first["make-file"].outputs.artifacts["data"].digest) == b"abc"


def test_a_task_run_again_with_the_same_bytes_keeps_what_is_behind_it(states, blobs, tmp_path):
    path = str(tmp_path / "log")
    first = states("edited", path=path)
    blobs.delete(first["make-file"].outputs.artifacts["data"].digest)
    again = states("edited", path=path)
    assert (again["make-file"].state, again["seen-file"].state) == ("COMPLETE", "CACHED")
    assert (tmp_path / "log").read_text() == "seen\n"
