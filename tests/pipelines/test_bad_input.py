"""Bad input: the task, the field and the remedy in one message, before anything starts; nothing half-recorded."""

from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest

from mainspring.core import InvalidInput
from mainspring.pipelines import list_runs, list_tasks, read_compiled
from mainspring.pipelines.attempt import describe_failure
from mainspring.pipelines.ir import read_pipeline
from mainspring.pipelines.planner import make_plan

LEAF = {"executorLabel": "exec", "inputDefinitions": {"parameters": {"x": {"parameterType": "NUMBER_INTEGER"}}}}
CONTAINER = {"container": {"image": "alpine:3", "command": ["echo"]}}


def pipeline(tasks: dict[str, Any], **changes: Any) -> bytes:
    document = {
        "pipelineInfo": {"name": "bad"},
        "components": {"leaf": LEAF},
        "deploymentSpec": {"executors": {"exec": CONTAINER}},
        "root": {"dag": {"tasks": tasks}},
    }
    return msgspec.json.encode({**document, **changes})


def task(**changes: Any) -> dict[str, Any]:
    constant = {"parameters": {"x": {"runtimeValue": {"constant": 1}}}}
    return {"componentRef": {"name": "leaf"}, "inputs": constant, **changes}


def given(source: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": {"parameters": {"x": source}}}


def executor(container: dict[str, Any]) -> dict[str, Any]:
    return {"deploymentSpec": {"executors": {"exec": {"container": container}}}}


CASES: dict[str, tuple[bytes, list[str]]] = {
    "no tasks": (pipeline({}), ["has no tasks"]),
    "cycle": (
        pipeline({"a": task(dependentTasks=["b"]), "b": task(dependentTasks=["a"]), "c": task()}),
        ["task a", "cycle of tasks (a after b after a)"],
    ),
    "a task behind a cycle": (
        pipeline({"a": task(dependentTasks=["b"]), "b": task(dependentTasks=["b"])}),
        ["task b", "cycle of tasks (b after b)"],
    ),
    "too deep": (b"a: " + b"[" * 3000 + b"]" * 3000, ["nested too deeply"]),
    "unknown task": (pipeline({"a": task(dependentTasks=["z"])}), ["task a", "'z', which is not in its dag"]),
    "missing component": (pipeline({"a": task(componentRef={"name": "no"})}), ["task a", "component 'no' is missing"]),
    "missing executor": (
        pipeline({"a": task()}, deploymentSpec={"executors": {}}),
        ["task a", "executor 'exec' is missing"],
    ),
    "missing input of the dag": (
        pipeline({"a": task(**given({"componentInputParameter": "y"}))}),
        ["task a", "its input 'x' is the input 'y' of its dag"],
    ),
    "unknown placeholder": (
        pipeline({"a": task(**given({"runtimeValue": {"constant": "{{$.inputs.parameters['z']}}"}}))}),
        ["task a", "unknown placeholder {{$.inputs.parameters['z']}}", "'x'"],
    ),
    "unknown placeholder in a command": (
        pipeline({"a": task()}, **executor({"image": "i", "command": ["{{$.outputs.artifacts['m'].path}}"]})),
        ["task a", "unknown placeholder {{$.outputs.artifacts['m'].path}}", "command"],
    ),
    "no source": (pipeline({"a": task(**given({}))}), ["task a", "'x' has no source"]),
    "condition": (
        pipeline({"a": task(triggerPolicy={"condition": "inputs.parameter_values['x'] = 1"})}),
        ["task a", "condition", "character"],
    ),
    "selector": (
        pipeline({"a": task(**given({"runtimeValue": {"constant": 1}, "parameterExpressionSelector": "eval('1')"}))}),
        ["task a", "unknown function 'eval'"],
    ),
    "loop items": (
        pipeline({"a": task(parameterIterator={"itemInput": "x", "items": {"raw": "{}"}})}),
        ["task a", "items of its loop are not a JSON list"],
    ),
    "resources": (
        pipeline({"a": task()}, **executor({"image": "i", "resources": {"resourceMemoryLimit": "lots"}})),
        ["task a", "'lots' is not an amount"],
    ),
    "backoff": (
        pipeline({"a": task(retryPolicy={"maxRetryCount": 1, "backoffDuration": "soon"})}),
        ["Task a", "'soon'", "duration", "30s"],
    ),
    "type": (
        pipeline(
            {"a": task()},
            components={"leaf": {**LEAF, "inputDefinitions": {"parameters": {"x": {"parameterType": "NUMBER"}}}}},
        ),
        ["task a", "'x' has the unknown type 'NUMBER'"],
    ),
    "contains itself": (
        pipeline(
            {"a": task(componentRef={"name": "self"})},
            components={"self": {"dag": {"tasks": {"b": {"componentRef": {"name": "self"}}}}}},
        ),
        ["task a/b", "contains itself"],
    ),
    "malformed": (pipeline({"a": task(dependentTasks="b")}), ["malformed", "$.root.dag.tasks[...].dependentTasks"]),
    "task that is a path": (pipeline({"../../x": task()}), ["'../../x'", "cannot be the name of a folder"]),
    "output that is a path": (
        pipeline(
            {"a": task()},
            components={"leaf": {**LEAF, "outputDefinitions": {"artifacts": {"../m": {}}}}},
        ),
        ["task a", "'../m' cannot be the name of a file"],
    ),
    "not yaml": (b"a: [1", ["cannot be read"]),
    "not a pipeline": (b"just text", ["not a compiled pipeline"]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named_before_anything_starts(name, make_engine, sqlite_database):
    document, parts = CASES[name]
    with pytest.raises(InvalidInput) as refused:
        make_engine(sqlite_database).create_run(read_compiled(document), pipeline="bad", parameters={})
    message = str(refused.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert refused.value.hint or name in ("not yaml", "not a pipeline")
    with sqlite_database.read() as connection:
        assert list_runs(connection) == []


def test_everything_wrong_is_in_one_error():
    document = pipeline({f"t{index}": task(dependentTasks=["z"]) for index in range(7)})
    with pytest.raises(InvalidInput, match=r"task t0: .*task t4: .*; and 2 more"):
        make_plan(read_pipeline(document))


def test_a_small_file_cannot_ask_for_a_million_tasks():
    components: dict[str, Any] = {"d0": LEAF}
    for level in range(1, 8):
        tasks = {f"t{index}": {"componentRef": {"name": f"d{level - 1}"}} for index in range(10)}
        components[f"d{level}"] = {"dag": {"tasks": tasks}}
    document = pipeline({"a": {"componentRef": {"name": "d7"}}}, components=components)
    with pytest.raises(InvalidInput, match="more than 200000 tasks"):
        make_plan(read_pipeline(document))


def test_the_older_dialect_is_read_too():
    old = {
        "pipelineSpec": {
            "pipelineInfo": {"name": "old"},
            "schemaVersion": "2.0.0",
            "components": {"leaf": {**LEAF, "inputDefinitions": {"parameters": {"x": {"type": "INT"}}}}},
            "deploymentSpec": {"executors": {"exec": CONTAINER}},
            "root": {
                "inputDefinitions": {"parameters": {"n": {"type": "INT"}}},
                "dag": {
                    "tasks": {
                        "a": task(**given({"runtimeValue": {"constantValue": {"intValue": "5"}}})),
                        "b": task(**given({"runtimeValue": {"runtimeParameter": "n"}})),
                    }
                },
            },
        },
        "runtimeConfig": {"parameters": {"n": {"intValue": "7"}}},
    }
    plan = make_plan(read_pipeline(msgspec.json.encode(old)))
    assert plan.root.tasks["a"].parameters["x"].value == 5
    assert plan.interface.parameters["n"].default == 7
    assert plan.interface.parameters["n"].type == "NUMBER_INTEGER"


def test_a_full_disk_is_said_with_what_to_do():
    error = OSError(errno.ENOSPC, "No space left on device", "/data/x")
    assert describe_failure(error) == "The disk is full at /data/x: free some space, then retry the run."


def test_a_disk_that_fills_up_fails_the_task_and_nothing_of_it_is_recorded(
    make_engine, sqlite_database, compiled, blobs, monkeypatch
):
    engine = make_engine(sqlite_database)
    id = engine.create_run(compiled["artifacts"], pipeline="a", parameters={}, use_cache=False)

    def full(_path):
        raise OSError(errno.ENOSPC, "No space left on device", str(blobs.root))

    monkeypatch.setattr(blobs, "put_file", full)
    finished = engine.execute(id)
    assert finished.error == (
        f"Task make-file failed: The disk is full at {blobs.root}: free some space, then retry the run."
    )
    with sqlite_database.read() as connection:
        tasks = {task.address: task for task in list_tasks(connection, id)}
    assert tasks["make-file"].outputs.artifacts == {}
    monkeypatch.undo()
    engine.retry(id)
    assert engine.execute(id).state == "COMPLETE"
