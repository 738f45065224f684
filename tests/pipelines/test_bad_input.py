"""Bad input: the task, the field and the remedy in one message, before anything starts; nothing half-recorded."""

from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest

from mainspring.core import InvalidInput
from mainspring.pipelines import list_runs, list_tasks, read_compiled
from mainspring.pipelines.attempt import describe_failure
from mainspring.pipelines.bindings import condition_holds
from mainspring.pipelines.ir import read_pipeline
from mainspring.pipelines.plan import Parameter
from mainspring.pipelines.planner import make_plan
from mainspring.pipelines.values import Values, fit_arguments

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


def source_of(task: str, key: str) -> dict[str, Any]:
    return given({"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}})


def leaf(**changes: Any) -> dict[str, Any]:
    """Components with one leaf that also has outputs: a parameter and an artifact."""
    outputs = {"parameters": {"out": {"parameterType": "NUMBER_INTEGER"}}, "artifacts": {"file": {}}}
    return {"components": {"leaf": {**LEAF, "outputDefinitions": outputs, **changes}}}


def with_platform(data: bytes, platforms: Any) -> bytes:
    return data + b"\n---\n" + msgspec.json.encode({"platforms": platforms})


def with_settings(settings: Any) -> bytes:
    return with_platform(pipeline({"a": task()}), {"kubernetes": {"deploymentSpec": {"executors": {"exec": settings}}}})


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
    "missing input": (
        pipeline({"a": task(inputs={})}),
        ["task a", "its input 'x' (whole number) is missing", "give it a value"],
    ),
    "missing artifact": (
        pipeline({"a": task()}, **leaf(inputDefinitions={"artifacts": {"data": {}}})),
        ["task a", "its input 'data' (artifact system.Artifact) is missing"],
    ),
    "missing input of a nested pipeline": (
        pipeline(
            {"a": {"componentRef": {"name": "nested"}}},
            components={"leaf": LEAF, "nested": {**LEAF, "executorLabel": "", "dag": {"tasks": {"b": task()}}}},
        ),
        ["task a", "its input 'x' (whole number) is missing"],
    ),
    "input of an unknown task": (
        pipeline({"first": task(), "b": task(**source_of("frist", "out"))}, **leaf()),
        ["task b", "its input 'x' is of the task 'frist', which is not in its dag (did you mean 'first'?)"],
    ),
    "unknown output": (
        pipeline({"a": task(), "b": task(**source_of("a", "otu"))}, **leaf()),
        ["task b", "its input 'x' is the parameter 'otu' of task 'a', whose output parameters are: 'out'"],
    ),
    "an artifact for a parameter": (
        pipeline({"a": task(), "b": task(**source_of("a", "file"))}, **leaf()),
        ["task b", "its input 'x' is the parameter 'file' of task 'a', which is an artifact there"],
    ),
    "unknown output artifact": (
        pipeline(
            {
                "a": {
                    "componentRef": {"name": "leaf"},
                    "inputs": {
                        "artifacts": {
                            "d": {"taskOutputArtifact": {"producerTask": "b", "outputArtifactKey": "z"}},
                        }
                    },
                },
                "b": {"componentRef": {"name": "leaf"}},
            },
            **leaf(inputDefinitions={}),
        ),
        ["task a", "its input 'd' is the artifact 'z' of task 'b', whose output artifacts are: 'file'"],
    ),
    "unknown output of the pipeline": (
        pipeline(
            {},
            root={
                "dag": {
                    "tasks": {"a": task()},
                    "outputs": {
                        "parameters": {"o": {"valueFromParameter": {"producerSubtask": "a", "outputParameterKey": "z"}}}
                    },
                }
            },
        ),
        ["the pipeline itself", "its output 'o' is the parameter 'z' of task 'a'"],
    ),
    "constant of another type": (
        pipeline({"a": task(**given({"runtimeValue": {"constant": "3"}}))}),
        ["task a", "its input 'x': \"3\" is not a whole number"],
    ),
    "default of another type": (
        pipeline(
            {"a": task()},
            components={
                "leaf": {
                    **LEAF,
                    "inputDefinitions": {"parameters": {"x": {"parameterType": "BOOLEAN", "defaultValue": "no"}}},
                }
            },
        ),
        ["task a", "the default of its input 'x'", "is not a boolean"],
    ),
    "retries": (pipeline({"a": task(retryPolicy={"maxRetryCount": -1})}), ["task a", "maxRetryCount is -1"]),
    "back-off factor": (
        pipeline({"a": task(retryPolicy={"maxRetryCount": 1, "backoffFactor": -2})}),
        ["task a", "backoffFactor is -2"],
    ),
    "negative back-off": (
        pipeline({"a": task(retryPolicy={"maxRetryCount": 1, "backoffMaxDuration": "-5s"})}),
        ["task a", "backoffMaxDuration is '-5s'", "30s"],
    ),
    "parallelism": (
        pipeline({"a": task(iteratorPolicy={"parallelismLimit": -1})}),
        ["task a", "parallelismLimit is -1", "0 for no limit"],
    ),
    "loop over an input it does not have": (
        pipeline({"a": task(parameterIterator={"itemInput": "x", "items": {"inputParameter": "rows"}})}),
        ["task a", "its loop runs over its input 'rows', which it does not have"],
    ),
    "strategy": (
        pipeline({"a": task(triggerPolicy={"strategy": "ALWAYS"})}),
        ["task a", "the unknown strategy 'ALWAYS'", "ALL_UPSTREAM_TASKS_COMPLETED"],
    ),
    "two loops": (
        pipeline(
            {
                "a": task(
                    parameterIterator={"itemInput": "x", "items": {"raw": "[1]"}},
                    artifactIterator={"itemInput": "x", "items": {"inputArtifact": "y"}},
                )
            }
        ),
        ["task a", "parameterIterator and an artifactIterator"],
    ),
    "timeout": (with_settings({"activeDeadlineSeconds": "soon"}), ["task a", "activeDeadlineSeconds is 'soon'"]),
    "timeout of the pipeline": (
        with_platform(pipeline({"a": task()}), {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": -1}}}),
        ["activeDeadlineSeconds is -1"],
    ),
    "platform settings": (with_settings({"secretAsEnv": ["x"]}), ["executors.exec", "$.secretAsEnv[0]"]),
    "platform document": (with_platform(pipeline({"a": task()}), {"kubernetes": 1}), ["platforms.kubernetes"]),
    "two pipelines": (pipeline({"a": task()}) + b"\n---\n" + pipeline({"a": task()}), ["2 pipelines in one file"]),
    "pipelineSpec": (b'{"pipelineSpec": null}', ["pipelineSpec is no mapping"]),
    "backoff": (
        pipeline({"a": task(retryPolicy={"maxRetryCount": 1, "backoffDuration": "soon"})}),
        ["task a", "backoffDuration", "'soon'", "30s"],
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
    "not yaml": (b"a:\n  - [1", ["cannot be read", "line 3"]),
    "not json": (b'{"a": ', ["cannot be read", "truncated"]),
    "not text": (b"\xff\xfe\x00", ["cannot be read"]),
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
    assert refused.value.hint
    with sqlite_database.read() as connection:
        assert list_runs(connection) == []


def test_everything_wrong_is_in_one_error():
    document = pipeline({f"t{index}": task(dependentTasks=["z"]) for index in range(7)})
    with pytest.raises(InvalidInput, match=r"task t0: .*task t4: .*; and 2 more"):
        make_plan(read_pipeline(document))


def test_a_small_file_cannot_ask_for_a_million_tasks():
    components: dict[str, Any] = {"d0": LEAF}
    for level in range(1, 8):
        tasks = {f"t{index}": task(componentRef={"name": f"d{level - 1}"}) for index in range(10)}
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


def test_what_looks_like_a_date_is_a_text():
    data = pipeline({"a": task(**given({"runtimeValue": {"constant": "?"}}))}).replace(b'"?"', b"2026-11-21")
    plan = make_plan(read_pipeline(b"# YAML\n" + data.replace(b"NUMBER_INTEGER", b"STRING")))
    assert plan.root.tasks["a"].parameters["x"].value == "2026-11-21"


def test_the_platform_document_may_come_first():
    first, second = with_settings({"activeDeadlineSeconds": "7"}).split(b"\n---\n")
    plan = make_plan(read_pipeline(second + b"\n---\n" + first))
    assert plan.root.tasks["a"].platform.timeout_ms == 7000


def test_conditions_of_the_older_dialect_read_typed_fields():
    text = "inputs.parameters['x'].int_value > 2 && inputs.parameters['x'].string_value != '2'"
    task_plan = make_plan(read_pipeline(pipeline({"a": task(triggerPolicy={"condition": text})}))).root.tasks["a"]
    assert [condition_holds(task_plan, Values(parameters={"x": x})) for x in (3, 2)] == [True, False]


def test_an_unknown_argument_names_the_nearest_one():
    parameters = {"count": Parameter(type="NUMBER_INTEGER"), "rate": Parameter(type="NUMBER_DOUBLE")}
    with pytest.raises(InvalidInput, match=r"no parameter 'cuont' \(did you mean 'count'\?\)") as refused:
        fit_arguments({"cuont": 1}, parameters, "The pipeline 'p'")
    assert refused.value.hint == "Its parameters: count, rate."


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
