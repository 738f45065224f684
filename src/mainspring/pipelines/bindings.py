"""Where values come from: the inputs of a task and the outputs of a dag, resolved in the scope of their dag.

Pure functions. A value that is not there is `Absent`, with the reason; a value that does not fit is `InvalidInput`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from mainspring.core import InvalidInput, Json
from mainspring.pipelines.expressions import evaluate, evaluate_condition
from mainspring.pipelines.ir import normalise_numbers
from mainspring.pipelines.placeholders import Lookup, fill_placeholders, has_placeholder, text_of
from mainspring.pipelines.plan import (
    Constant,
    DagPlan,
    FromParent,
    FromTask,
    ParameterSource,
    Selected,
    StatusOf,
    TaskPlan,
)
from mainspring.pipelines.values import ArtifactValue, Values, fit_parameter

OutcomeState = Literal["WAITING", "COMPLETE", "FAILED", "SKIPPED", "BLOCKED", "CANCELED"]
CHANNEL = ("pipelinechannel--", "pipelineparam--")
"""What the compilers call the inputs they add to a dag; the types they write there are not always true."""
_STATUS_NAMES = {"COMPLETE": "SUCCEEDED", "SKIPPED": "SUCCEEDED", "CANCELED": "CANCELLED"}


class Outcome(Protocol):
    """How a task stands. SKIPPED: a condition said no; BLOCKED: something before it failed."""

    state: OutcomeState
    outputs: Values
    failed_task: str
    error: str


class Scope(Protocol):
    """What the tasks of one dag can see: the dag's inputs and how their siblings stand."""

    inputs: Values

    def given(self, name: str) -> Json:
        """Return an input of the dag, or of a dag around it, for which the compiler forgot to pass it on."""
        ...

    def outcome(self, name: str) -> Outcome:
        """Return how a task of the dag stands."""
        ...


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a task: those its component declares, and everything its placeholders can name."""

    values: Values
    given: dict[str, Any]


class Absent(Exception):
    """A required input has no value; ``skipped`` when its producer was skipped by a condition."""

    def __init__(self, reason: str, *, skipped: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.skipped = skipped


def resolve_inputs(task: TaskPlan, scope: Scope, job: Mapping[str, str]) -> Inputs:
    """Resolve all inputs of a task; raise `Absent` or `InvalidInput`."""
    given: dict[str, Any] = {}
    waiting: dict[str, ParameterSource] = {}
    for name, source in task.parameters.items():
        if isinstance(source, Constant) and has_placeholder(source.value):
            waiting[name] = source
        else:
            given[name] = _parameter(name, source, scope, job)
    for name, source in waiting.items():
        assert isinstance(source, Constant)
        given[name] = fill_placeholders(source.value, Lookup(parameters=given, job=job))
    artifacts, lists = _artifacts(task, scope)
    values = Values(parameters=_fitted(task, given, scope), artifacts=artifacts, lists=lists)
    return Inputs(values=values, given={**given, **values.parameters})


def condition_holds(task: TaskPlan, inputs: Values) -> bool:
    """Evaluate a task's condition over its inputs; raise `InvalidInput` when it has no value."""
    assert task.condition is not None
    declared = task.interface.parameters
    parameters = {
        name: text_of(value) if value is not None and name in declared and declared[name].type == "STRING" else value
        for name, value in inputs.parameters.items()
    }
    listed = {name: (value,) for name, value in inputs.artifacts.items()} | dict(inputs.lists)
    artifacts = {name: {"artifacts": [_described(value) for value in values]} for name, values in listed.items()}
    old = {name: _old_value(value) for name, value in parameters.items()}
    environment = {"inputs": {"parameter_values": parameters, "parameters": old, "artifacts": artifacts}}
    try:
        return evaluate_condition(task.condition, environment)
    except InvalidInput as error:
        raise InvalidInput(f"Its condition has no value: {error.message}") from error


def loop_items(task: TaskPlan, inputs: Values) -> tuple[Any, ...]:
    """Return what a loop runs over: parameter values or artifacts; raise `InvalidInput` when it is not a list."""
    loop = task.loop
    assert loop is not None
    if loop.raw is not None:
        return loop.raw
    if loop.artifact:
        single = inputs.artifacts.get(loop.artifact)
        return inputs.lists.get(loop.artifact, () if single is None else (single,))
    value = inputs.parameters.get(loop.parameter)
    if isinstance(value, str):
        value = _json_list(value)
    if not isinstance(value, list):
        shown = "nothing" if value is None else text_of(value)[:100]
        raise InvalidInput(f"Its loop runs over {loop.parameter!r}, which is {shown} and not a list.")
    return tuple(value)


def with_item(task: TaskPlan, inputs: Values, item: Json) -> Values:
    """Return the inputs of one iteration of a loop."""
    assert task.loop is not None
    name = task.loop.item
    if isinstance(item, ArtifactValue):
        return msgspec.structs.replace(inputs, artifacts={**inputs.artifacts, name: item})
    parameters = {**inputs.parameters, name: item}
    for declared in task.interface.parameters:
        field = declared.removeprefix(f"{name}-subvar-")
        if field != declared and parameters.get(declared) is None and isinstance(item, dict):
            parameters[declared] = item.get(field)  # the compiler names it, and forgets to say where it is from
    return msgspec.structs.replace(inputs, parameters=parameters)


def dag_outputs(dag: DagPlan, scope: Scope) -> Values:
    """Return the outputs of a dag all of whose tasks have ended; raise `InvalidInput` for a branch too many or none."""
    outputs = Values()
    for name, sources in dag.parameters.items():
        source = _chosen(name, sources, scope)
        if source is not None and source.key in scope.outcome(source.task).outputs.parameters:
            outputs.parameters[name] = scope.outcome(source.task).outputs.parameters[source.key]
    for name, sources in dag.artifacts.items():
        source = _chosen(name, sources, scope)
        if source is None:
            continue
        found = scope.outcome(source.task).outputs
        if source.key in found.lists:
            outputs.lists[name] = found.lists[source.key]
        elif source.key in found.artifacts:
            outputs.artifacts[name] = found.artifacts[source.key]
    return outputs


def collect(dag: DagPlan, iterations: list[Values]) -> Values:
    """Collect the outputs of a loop: one list level for parameters, one flat list for artifacts, in order.

    Iterations in which a condition skipped the producer have no such output and are left out.
    """
    return Values(
        parameters={
            name: [values.parameters[name] for values in iterations if name in values.parameters]
            for name in dag.parameters
        },
        lists={
            name: tuple(
                artifact
                for values in iterations
                for artifact in values.lists.get(name, (values.artifacts[name],) if name in values.artifacts else ())
            )
            for name in dag.artifacts
        },
    )


def _parameter(name: str, source: ParameterSource, scope: Scope, job: Mapping[str, str]) -> Json:
    match source:
        case Constant(value):
            return value
        case FromParent(key):
            return scope.given(key)
        case FromTask(task, key):
            return scope.outcome(task).outputs.parameters.get(key)
        case StatusOf(task):
            return _final_status(scope.outcome(task), task, job)
        case Selected(inner, selector):
            return _select(name, _parameter(name, inner, scope, job), selector)


def _select(name: str, value: Json, selector: Json) -> Json:
    """Take a part out of a value; to the selector, the value is a ``google.protobuf.Value`` with its JSON text."""
    if value is None:
        return None
    environment: dict[str, Any] = {"string_value": text_of(value)}
    kinds = {dict: "struct_value", list: "list_value", bool: "bool_value", int: "number_value", float: "number_value"}
    if type(value) in kinds:
        environment[kinds[type(value)]] = value
    try:
        return normalise_numbers(evaluate(selector, environment))
    except InvalidInput as error:
        raise InvalidInput(f"Its input {name!r} is a part of {text_of(value)[:100]}: {error.message}") from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"Its input {name!r} is a part of {text_of(value)[:100]}, which is not JSON.") from error


def _fitted(task: TaskPlan, given: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Check the given parameters against the declared ones; a dag gets the default or null for what is missing."""
    is_dag = isinstance(task.body, DagPlan)
    declared = task.interface.parameters
    fitted = {name: value for name, value in given.items() if is_dag and _passes(name, name in declared)}
    item = "" if task.loop is None else task.loop.item
    for name, parameter in declared.items():
        if name in fitted and fitted[name] is not None:
            continue
        value = given.get(name)
        if value is not None:
            try:
                fitted[name] = fit_parameter(value, parameter)
            except InvalidInput as error:
                raise InvalidInput(f"Its input {name!r}: {error.message}.") from error
        elif is_dag and (name == item or parameter.optional or _may_be_null(name, task.parameters.get(name), scope)):
            fitted[name] = None if parameter.default is msgspec.UNSET else parameter.default
        elif parameter.type == "TASK_CONFIG":
            fitted[name] = {}
        elif not parameter.optional:
            raise _absent(name, task.parameters.get(name), scope)
    return fitted


def _passes(name: str, is_declared: bool) -> bool:
    return not is_declared or name.startswith(CHANNEL)


def _may_be_null(name: str, source: ParameterSource | None, scope: Scope) -> bool:
    """Say whether a dag may get null: from an optional input of the dag around it, or where the compiler added it."""
    if isinstance(source, FromTask):
        return name.startswith(CHANNEL) and scope.outcome(source.task).state == "COMPLETE"
    return name.startswith(CHANNEL) or (isinstance(source, FromParent) and source.name in scope.inputs.parameters)


def _artifacts(task: TaskPlan, scope: Scope) -> tuple[dict[str, ArtifactValue], dict[str, tuple[ArtifactValue, ...]]]:
    single: dict[str, ArtifactValue] = {}
    lists: dict[str, tuple[ArtifactValue, ...]] = {}
    for name, source in task.artifacts.items():
        if isinstance(source, FromParent):
            values, key = scope.inputs, source.name
        else:
            values, key = scope.outcome(source.task).outputs, source.key
        spec = task.interface.artifacts.get(name)
        if key in values.lists:
            lists[name] = values.lists[key]
        elif key in values.artifacts and spec is not None and spec.is_artifact_list:
            lists[name] = (values.artifacts[key],)
        elif key in values.artifacts:
            single[name] = values.artifacts[key]
    item = "" if task.loop is None else task.loop.item
    for name, spec in task.interface.artifacts.items():
        if name in lists and not spec.is_artifact_list and not isinstance(task.body, DagPlan):
            raise InvalidInput(f"Its input {name!r} is one artifact, and it is given a list of {len(lists[name])}.")
        if name not in single and name not in lists and not spec.is_optional and name != item:
            raise _absent(name, task.artifacts.get(name), scope)
    return single, lists


def _absent(name: str, source: object, scope: Scope) -> Absent:
    inner = source.source if isinstance(source, Selected) else source
    if not isinstance(inner, FromTask):
        return Absent(f"Its input {name!r} has no value.", skipped=False)
    producer = scope.outcome(inner.task).state
    if producer == "SKIPPED":
        return Absent(f"task {inner.task}, whose output it needs, was skipped", skipped=True)
    reason = "failed" if producer in ("FAILED", "BLOCKED", "CANCELED") else f"gave no {inner.key!r}"
    return Absent(f"Its input {name!r} has no value: task {inner.task} {reason}.", skipped=False)


def _final_status(outcome: Outcome, task: str, job: Mapping[str, str]) -> dict[str, Any]:
    state = _STATUS_NAMES.get(outcome.state, "FAILED")
    failed = state != "SUCCEEDED"
    return {
        "state": state,
        "error": {"code": 1 if state == "CANCELLED" else 9, "message": outcome.error} if failed else {},
        "pipelineJobResourceName": job["pipeline_job_resource_name"],
        "pipelineTaskName": task,
    }


def _chosen(name: str, sources: tuple[FromTask, ...], scope: Scope) -> FromTask | None:
    ran = [source for source in sources if scope.outcome(source.task).state == "COMPLETE"]
    if len(sources) > 1 and len(ran) != 1:
        raise InvalidInput(
            f"Exactly one of the branches that give {name!r} has to run, and {len(ran)} did "
            f"({', '.join(source.task for source in ran) or 'none'})."
        )
    return ran[0] if ran else None


def _described(value: ArtifactValue) -> dict[str, Any]:
    return {"name": value.name, "uri": value.uri, "metadata": value.metadata}


def _old_value(value: Json) -> dict[str, Any]:
    """Return a value as conditions before schema version 2.1 see it: one field per type it can be read as."""
    number = value if isinstance(value, int | float) else 0
    return {"string_value": text_of(value), "int_value": int(number), "double_value": float(number)}


def _json_list(text: str) -> Json:
    try:
        return normalise_numbers(msgspec.json.decode(text))
    except msgspec.DecodeError:
        return text
