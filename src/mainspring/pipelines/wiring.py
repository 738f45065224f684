"""Whether the tasks of a dag fit together: every input has a source, every source exists, every constant fits.

What is found here would fail a task of the run; it is said before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from mainspring.core import InvalidInput
from mainspring.pipelines.bindings import CHANNEL
from mainspring.pipelines.placeholders import has_placeholder
from mainspring.pipelines.plan import (
    ArtifactSource,
    Constant,
    DagPlan,
    FromParent,
    FromTask,
    Interface,
    ParameterSource,
    Selected,
    StatusOf,
    TaskPlan,
)
from mainspring.pipelines.values import fit_parameter, nearest, word_of

Tasks = Mapping[str, TaskPlan]
_TYPES = {
    *("NUMBER_INTEGER", "NUMBER_DOUBLE", "STRING", "BOOLEAN", "LIST", "STRUCT"),
    *("TASK_FINAL_STATUS", "TASK_CONFIG"),
}


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the tasks of a dag can refer to."""

    names: frozenset[str]
    """All tasks of the dag."""
    tasks: Tasks
    """Those of them that could be planned."""
    inputs: frozenset[str]


def check_task(task: TaskPlan, around: Surroundings) -> Iterator[str]:
    """Iterate over what is wrong with the inputs of a task, given what is around it."""
    yield from _check_given(task)
    for name, source in task.parameters.items():
        if isinstance(source, Constant):
            yield from _check_constant(task, name, source)
        else:
            yield from _check_source("parameter", name, source, around)
    for name, artifact in task.artifacts.items():
        yield from _check_source("artifact", name, artifact, around)
    yield from _check_loop(task)


def check_outputs(kind: str, outputs: Mapping[str, tuple[FromTask, ...]], around: Surroundings) -> Iterator[str]:
    """Iterate over what is wrong with the outputs of a dag; ``kind`` is what they are: parameter or artifact."""
    for name, sources in outputs.items():
        for source in sources:
            if source.task not in around.names:
                hint = nearest(source.task, around.names)
                yield f"its output {name!r} is of {source.task!r}, which is not in it{hint}"
            elif source.task in around.tasks:
                yield from _check_output(f"its output {name!r}", source, around.tasks[source.task], kind)


def check_interface(interface: Interface) -> Iterator[str]:
    """Iterate over what is wrong with the types and the defaults a component declares."""
    for name, parameter in interface.parameters.items():
        if parameter.type not in _TYPES:
            yield f"its input {name!r} has the unknown type {parameter.type!r}"
        elif not has_placeholder(parameter.default):
            yield from _check_value(f"the default of its input {name!r}", parameter.default, interface, name)


def _check_given(task: TaskPlan) -> Iterator[str]:
    """Find the inputs that have to be given and are not; the item of a loop is given by the loop."""
    item = "" if task.loop is None else task.loop.item
    for name, parameter in task.interface.parameters.items():
        is_added = parameter.type == "TASK_CONFIG" or name == item or name.startswith(CHANNEL)
        if name not in task.parameters and not (parameter.optional or is_added):
            kind = word_of(parameter.type)
            yield f"its input {name!r} ({kind}) is missing: give it a value, or its component a default"
    for name, spec in task.interface.artifacts.items():
        if name not in task.artifacts and name != item and not spec.is_optional:
            yield f"its input {name!r} (artifact {spec.artifact_type.title}) is missing: give it an artifact"


def _check_source(
    kind: str, name: str, source: ParameterSource | ArtifactSource, around: Surroundings
) -> Iterator[str]:
    inner = source.source if isinstance(source, Selected) else source
    if isinstance(inner, FromTask | StatusOf) and inner.task not in around.names:
        hint = nearest(inner.task, around.names)
        yield f"its input {name!r} is of the task {inner.task!r}, which is not in its dag{hint}"
    elif isinstance(inner, FromTask) and inner.task in around.tasks:
        yield from _check_output(f"its input {name!r}", inner, around.tasks[inner.task], kind)
    elif isinstance(inner, FromParent) and inner.name not in around.inputs:
        is_added = name.startswith(CHANNEL) or inner.name.startswith(CHANNEL)
        if not is_added:
            hint = nearest(inner.name, around.inputs)
            yield f"its input {name!r} is the input {inner.name!r} of its dag, which has none{hint}"


def _check_output(what: str, source: FromTask, producer: TaskPlan, kind: str) -> Iterator[str]:
    """Find outputs that are not there, or are of the other kind."""
    declared = _outputs_of(producer)
    if source.key in declared[kind] or "-loop-item-subvar-" in source.key:  # kfp names it, and the loop fills it in
        return
    other = "artifact" if kind == "parameter" else "parameter"
    if source.key in declared[other]:
        yield f"{what} is the {kind} {source.key!r} of task {source.task!r}, which is an {other} there"
    else:
        known = ", ".join(repr(name) for name in sorted(declared[kind])) or "none"
        yield f"{what} is the {kind} {source.key!r} of task {source.task!r}, whose output {kind}s are: {known}"


def _outputs_of(task: TaskPlan) -> dict[str, set[str]]:
    interface, body = task.interface, task.body
    found = {"parameter": set(interface.output_parameters), "artifact": set(interface.output_artifacts)}
    if isinstance(body, DagPlan):
        found["parameter"] |= set(body.parameters)
        found["artifact"] |= set(body.artifacts)
    return found


def _check_constant(task: TaskPlan, name: str, source: Constant) -> Iterator[str]:
    if not has_placeholder(source.value) and not name.startswith(CHANNEL):
        yield from _check_value(f"its input {name!r}", source.value, task.interface, name)


def _check_value(what: str, value: object, interface: Interface, name: str) -> Iterator[str]:
    parameter = interface.parameters.get(name)
    if parameter is None or value is None or value is msgspec.UNSET:
        return
    try:
        fit_parameter(value, parameter)
    except InvalidInput as error:
        yield f"{what}: {error.message}"


def _check_loop(task: TaskPlan) -> Iterator[str]:
    if task.loop is None:
        return
    name = task.loop.parameter or task.loop.artifact
    known = {*task.parameters, *task.artifacts, *task.interface.parameters, *task.interface.artifacts}
    if name and name not in known:
        yield f"its loop runs over its input {name!r}, which it does not have"
