"""Where the inputs and outputs of a dag come from, as the IR writes it and as the plan does."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mainspring.pipelines import ir
from mainspring.pipelines.plan import ArtifactSource, Constant, FromParent, FromTask, ParameterSource, StatusOf


def read_parameter(given: ir.ParameterInput) -> ParameterSource | None:
    """Return where a parameter comes from; None when nothing that can be read is written there."""
    if given.task_output_parameter is not None:
        reference = given.task_output_parameter
        return FromTask(reference.producer_task, reference.output_parameter_key)
    if given.task_final_status is not None:
        return StatusOf(given.task_final_status.producer_task)
    if given.component_input_parameter:
        return FromParent(given.component_input_parameter)
    value = given.runtime_value or ir.RuntimeValue()
    if value.runtime_parameter:
        return FromParent(value.runtime_parameter)
    constant = ir.constant_of(value)
    return None if constant is msgspec.UNSET else Constant(constant)


def read_artifact(given: ir.ArtifactInput) -> ArtifactSource | None:
    """Return where an artifact comes from; None when nothing that can be read is written there."""
    if given.task_output_artifact is not None:
        reference = given.task_output_artifact
        return FromTask(reference.producer_task, reference.output_artifact_key)
    return FromParent(given.component_input_artifact) if given.component_input_artifact else None


def read_output_parameter(output: ir.DagOutputParameter) -> tuple[FromTask, ...]:
    """Return the sources of an output parameter of a dag; several are branches."""
    selectors = output.value_from_oneof.parameter_selectors if output.value_from_oneof else []
    if output.value_from_parameter is not None:
        selectors = [output.value_from_parameter]
    return tuple(FromTask(item.producer_subtask, item.output_parameter_key) for item in selectors)


def read_output_artifact(output: ir.DagOutputArtifact) -> tuple[FromTask, ...]:
    """Return the sources of an output artifact of a dag; several are branches."""
    return tuple(FromTask(item.producer_subtask, item.output_artifact_key) for item in output.artifact_selectors)


def producers(parameters: Iterable[ir.ParameterInput], artifacts: Iterable[ir.ArtifactInput]) -> list[str]:
    """Return the tasks that give a task its inputs, or whose status it wants."""
    references = [item for given in parameters for item in (given.task_output_parameter, given.task_final_status)]
    found = [reference.producer_task for reference in references if reference is not None]
    outputs = (given.task_output_artifact for given in artifacts)
    return found + [output.producer_task for output in outputs if output is not None]
