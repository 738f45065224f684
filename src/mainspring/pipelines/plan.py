"""The plan: a compiled pipeline, validated and turned into a tree of tasks in an order that can be run.

Everything this engine cannot run is refused here, before anything starts, in one error that names the tasks and
the constructs. A task's address is its path through the dags: ``train-all/condition-2/fit``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from mainspring.core import InvalidInput
from mainspring.pipelines import ir
from mainspring.pipelines.component import PythonComponent, lift_component
from mainspring.pipelines.expressions import Expression, parse_expression
from mainspring.pipelines.placeholders import check_placeholders

_OLD_TYPES = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}
_TYPES = {"NUMBER_INTEGER", "NUMBER_DOUBLE", "STRING", "BOOLEAN", "LIST", "STRUCT", "TASK_FINAL_STATUS"}


class Constant(msgspec.Struct, frozen=True):
    """A value written in the pipeline; it may hold placeholders."""

    value: Any


class FromParent(msgspec.Struct, frozen=True):
    """An input of the dag the task is in."""

    name: str


class FromTask(msgspec.Struct, frozen=True):
    """An output of another task of the same dag."""

    task: str
    key: str


class StatusOf(msgspec.Struct, frozen=True):
    """How another task of the same dag ended."""

    task: str


ParameterSource = Constant | FromParent | FromTask | StatusOf
ArtifactSource = FromParent | FromTask


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A declared parameter; ``default`` is `msgspec.UNSET` when there is none."""

    type: str
    default: Any = msgspec.UNSET
    optional: bool = False
    literals: tuple[Any, ...] = ()


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """What a component takes and gives."""

    parameters: dict[str, Parameter]
    artifacts: dict[str, ir.ArtifactSpec]
    output_parameters: dict[str, Parameter]
    output_artifacts: dict[str, ir.ArtifactSpec]


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failed task runs again, and after how many milliseconds."""

    count: int = 0
    delay_ms: int = 0
    factor: float = 2.0
    longest_ms: int = 3_600_000


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One task: where its inputs come from, what it waits for and what it runs."""

    name: str
    interface: Interface
    body: PythonComponent | DagPlan
    parameters: dict[str, ParameterSource]
    artifacts: dict[str, ArtifactSource]
    upstream: tuple[str, ...]
    condition: Expression | None = None
    runs_after_failure: bool = False
    retry: Retry = Retry()
    caches: bool = False
    cache_key: str = ""


class DagPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks, each after those it waits for, and where the dag's outputs come from."""

    tasks: dict[str, TaskPlan]
    parameters: dict[str, tuple[FromTask, ...]] = {}
    """Sources of each output parameter; several are branches of which exactly one runs."""
    artifacts: dict[str, tuple[FromTask, ...]] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that can be run."""

    name: str
    interface: Interface
    root: DagPlan
    warnings: tuple[str, ...] = ()


def make_plan(spec: ir.PipelineSpec) -> Plan:
    """Validate a pipeline and plan it; raise `InvalidInput` with everything that is wrong or not supported."""
    planner = _Planner(spec)
    root = planner.dag(spec.root, "", ()) if spec.root.dag else DagPlan(tasks={})
    if not root.tasks:
        planner.problems.append("the pipeline has no tasks")
    for name, artifact in spec.root.input_definitions.artifacts.items():
        if not artifact.is_optional:
            planner.problems.append(f"the pipeline takes the artifact {name!r} as an argument")
    if planner.problems:
        shown = "; ".join(planner.problems[:5]) + ("; …" if len(planner.problems) > 5 else "")
        raise InvalidInput(
            f"The pipeline {spec.pipeline_info.name!r} cannot run here: {shown}.",
            hint="Nothing was started.",
        )
    return Plan(
        name=spec.pipeline_info.name,
        interface=_interface(spec.root),
        root=root,
        warnings=tuple(planner.warnings),
    )


def leaves(dag: DagPlan, prefix: str = "") -> Iterator[tuple[str, TaskPlan]]:
    """Iterate over the tasks that run something, with their addresses, in an order they can run in."""
    for task in dag.tasks.values():
        yield from leaves_of(task, address_of(prefix, task.name))


def leaves_of(task: TaskPlan, address: str) -> Iterator[tuple[str, TaskPlan]]:
    """Iterate over the tasks at or below ``address`` that run something."""
    if isinstance(task.body, DagPlan):
        yield from leaves(task.body, address)
    else:
        yield address, task


def waits_of(dag: DagPlan, prefix: str = "", inherited: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Iterate over the tasks that run something with the ones they wait for, by address, through all nesting.

    A task without a predecessor inside its group waits for what its group waits for.
    """
    for task in dag.tasks.values():
        address = address_of(prefix, task.name)
        own = tuple(leaf for name in task.upstream for leaf, _ in leaves_of(dag.tasks[name], address_of(prefix, name)))
        if isinstance(task.body, DagPlan):
            yield from waits_of(task.body, address, own or inherited)
        else:
            yield address, own or inherited


def address_of(prefix: str, name: str) -> str:
    """Return the address of a task inside the dag at ``prefix`` (empty for the root)."""
    return f"{prefix}/{name}" if prefix else name


class _Planner:
    """Walks the components and collects problems and warnings instead of stopping at the first."""

    def __init__(self, spec: ir.PipelineSpec) -> None:
        self.spec = spec
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def dag(self, component: ir.ComponentSpec, prefix: str, open_components: tuple[str, ...]) -> DagPlan:
        dag = component.dag or ir.DagSpec()
        tasks: dict[str, TaskPlan] = {}
        for name, spec in dag.tasks.items():
            task = self._task(name, spec, address_of(prefix, name), dag, open_components)
            if task is not None:
                tasks[name] = task
        return DagPlan(
            tasks=self._ordered(tasks, prefix),
            parameters={name: _parameter_selectors(output) for name, output in dag.outputs.parameters.items()},
            artifacts={
                name: tuple(
                    FromTask(item.producer_subtask, item.output_artifact_key) for item in output.artifact_selectors
                )
                for name, output in dag.outputs.artifacts.items()
            },
        )

    def _task(
        self, name: str, spec: ir.TaskSpec, address: str, dag: ir.DagSpec, open_components: tuple[str, ...]
    ) -> TaskPlan | None:
        component = self.spec.components.get(spec.component_ref.name)
        if component is None:
            self._refuse(address, f"its component {spec.component_ref.name!r} is missing")
            return None
        if spec.component_ref.name in open_components:
            self._refuse(address, "a component that contains itself")
            return None
        self._refuse_iterators(address, spec)
        body = self._body(component, address, (*open_components, spec.component_ref.name))
        if body is None:
            return None
        is_dag = isinstance(body, DagPlan)
        if is_dag and spec.retry_policy and spec.retry_policy.max_retry_count:
            self._refuse(address, "retries of a nested pipeline")
        return TaskPlan(
            name=name,
            interface=self._checked_interface(component, address),
            body=body,
            parameters=self._parameters(spec, address),
            artifacts=self._artifacts(spec, address),
            upstream=self._upstream(spec, address, dag),
            condition=self._condition(spec, address),
            runs_after_failure=spec.trigger_policy.strategy == "ALL_UPSTREAM_TASKS_COMPLETED",
            retry=_retry(spec.retry_policy),
            caches=spec.caching_options.enable_cache and not is_dag,
            cache_key=spec.caching_options.cache_key,
        )

    def _refuse_iterators(self, address: str, spec: ir.TaskSpec) -> None:
        if spec.parameter_iterator is not None or spec.artifact_iterator is not None:
            self._refuse(address, "a loop (ParallelFor)")

    def _body(
        self, component: ir.ComponentSpec, address: str, open_components: tuple[str, ...]
    ) -> PythonComponent | DagPlan | None:
        if component.dag is not None:
            return self.dag(component, address, open_components)
        executor = self.spec.deployment_spec.executors.get(component.executor_label)
        if executor is None:
            self._refuse(address, f"its executor {component.executor_label!r} is missing")
        elif executor.importer is not None:
            self._refuse(address, "an importer")
        elif executor.container is None:
            self._refuse(address, "an executor that is not a container")
        else:
            return self._lift(executor.container, address)
        return None

    def _lift(self, container: ir.ContainerSpec, address: str) -> PythonComponent | None:
        if container.resources:
            self.warnings.append(f"task {address}: its resource requests are not enforced here")
        if any("{{$" in variable.value or "$(" in variable.value for variable in container.env):
            self._refuse(address, "an environment variable with a placeholder")
        try:
            return lift_component(container)
        except InvalidInput as error:
            self._refuse(address, error.message)
            return None

    def _checked_interface(self, component: ir.ComponentSpec, address: str) -> Interface:
        interface = _interface(component)
        for name, parameter in interface.parameters.items():
            if parameter.type not in _TYPES:
                self._refuse(address, f"an input {name!r} of the type {parameter.type or 'unknown'}")
        for name, artifact in (*interface.artifacts.items(), *interface.output_artifacts.items()):
            if artifact.is_artifact_list:
                self._refuse(address, f"a list of artifacts ({name!r})")
        return interface

    def _parameters(self, spec: ir.TaskSpec, address: str) -> dict[str, ParameterSource]:
        names = frozenset(spec.inputs.parameters)
        sources: dict[str, ParameterSource] = {}
        for name, given in spec.inputs.parameters.items():
            if given.parameter_expression_selector:
                self._refuse(address, f"a field of a value as input {name!r} (parameterExpressionSelector)")
            source = _parameter_source(given)
            if source is None:
                self._refuse(address, f"its input {name!r} has no source that can be read")
                continue
            if isinstance(source, Constant):
                for placeholder in check_placeholders(source.value, names - {name}):
                    self._refuse(address, f"the placeholder {placeholder} in its input {name!r}")
            sources[name] = source
        return sources

    def _artifacts(self, spec: ir.TaskSpec, address: str) -> dict[str, ArtifactSource]:
        sources: dict[str, ArtifactSource] = {}
        for name, given in spec.inputs.artifacts.items():
            if given.task_output_artifact is not None:
                reference = given.task_output_artifact
                sources[name] = FromTask(reference.producer_task, reference.output_artifact_key)
            elif given.component_input_artifact:
                sources[name] = FromParent(given.component_input_artifact)
            else:
                self._refuse(address, f"its input {name!r} has no source that can be read")
        return sources

    def _upstream(self, spec: ir.TaskSpec, address: str, dag: ir.DagSpec) -> tuple[str, ...]:
        """Return dependentTasks and every producer: neither list alone is complete."""
        named = dict.fromkeys(spec.dependent_tasks)
        for parameter in spec.inputs.parameters.values():
            for reference in (parameter.task_output_parameter, parameter.task_final_status):
                if reference is not None:
                    named[reference.producer_task] = None
        for artifact in spec.inputs.artifacts.values():
            if artifact.task_output_artifact is not None:
                named[artifact.task_output_artifact.producer_task] = None
        for name in named:
            if name not in dag.tasks:
                self._refuse(address, f"it waits for the task {name!r}, which is not in its dag")
        return tuple(name for name in named if name in dag.tasks)

    def _condition(self, spec: ir.TaskSpec, address: str) -> Expression | None:
        if not spec.trigger_policy.condition:
            return None
        try:
            return parse_expression(spec.trigger_policy.condition)
        except InvalidInput as error:
            self._refuse(address, error.message.rstrip("."))
            return None

    def _ordered(self, tasks: dict[str, TaskPlan], prefix: str) -> dict[str, TaskPlan]:
        ordered: dict[str, TaskPlan] = {}
        waiting = dict(tasks)
        while waiting:
            free = [name for name, task in waiting.items() if not any(other in waiting for other in task.upstream)]
            if not free:
                self._refuse(address_of(prefix, min(waiting)), f"it is in a cycle of tasks ({', '.join(waiting)})")
                return ordered
            for name in free:
                ordered[name] = waiting.pop(name)
        return ordered

    def _refuse(self, address: str, construct: str) -> None:
        self.problems.append(f"task {address}: {construct}")


def _interface(component: ir.ComponentSpec) -> Interface:
    inputs, outputs = component.input_definitions, component.output_definitions
    return Interface(
        parameters={name: _parameter(spec) for name, spec in inputs.parameters.items()},
        artifacts=inputs.artifacts,
        output_parameters={name: _parameter(spec) for name, spec in outputs.parameters.items()},
        output_artifacts=outputs.artifacts,
    )


def _parameter(spec: ir.ParameterSpec) -> Parameter:
    return Parameter(
        type=spec.parameter_type or _OLD_TYPES.get(spec.type, spec.type),
        default=spec.default_value,
        optional=spec.is_optional or spec.default_value is not msgspec.UNSET,
        literals=tuple(spec.literals),
    )


def _parameter_source(given: ir.ParameterInput) -> ParameterSource | None:
    if given.task_output_parameter is not None:
        reference = given.task_output_parameter
        return FromTask(reference.producer_task, reference.output_parameter_key)
    if given.task_final_status is not None:
        return StatusOf(given.task_final_status.producer_task)
    if given.component_input_parameter:
        return FromParent(given.component_input_parameter)
    return _runtime_value(given.runtime_value or ir.RuntimeValue())


def _runtime_value(value: ir.RuntimeValue) -> ParameterSource | None:
    if value.runtime_parameter:
        return FromParent(value.runtime_parameter)
    if value.constant_value:
        return Constant(next(iter(value.constant_value.values())))
    return None if value.constant is msgspec.UNSET else Constant(value.constant)


def _parameter_selectors(output: ir.DagOutputParameter) -> tuple[FromTask, ...]:
    selectors = output.value_from_oneof.parameter_selectors if output.value_from_oneof else []
    if output.value_from_parameter is not None:
        selectors = [output.value_from_parameter]
    return tuple(FromTask(item.producer_subtask, item.output_parameter_key) for item in selectors)


def _retry(policy: ir.RetryPolicy | None) -> Retry:
    if policy is None:
        return Retry()
    return Retry(
        count=policy.max_retry_count,
        delay_ms=_milliseconds(policy.backoff_duration),
        factor=policy.backoff_factor or 2.0,
        longest_ms=_milliseconds(policy.backoff_max_duration) or 3_600_000,
    )


def _milliseconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)s", duration)
    return round(float(match[1]) * 1000) if match else 0
