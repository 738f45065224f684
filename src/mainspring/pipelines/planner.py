"""From the compiled pipeline to the plan: every reference checked, every expression parsed, one error for all.

A component is planned once, however often it is used. Nothing is started before the whole plan stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from mainspring.core import InvalidInput
from mainspring.pipelines import ir
from mainspring.pipelines.component import ContainerComponent, lift_component, read_resources
from mainspring.pipelines.expressions import Expression, parse_expression
from mainspring.pipelines.placeholders import check_command, check_placeholders, has_placeholder
from mainspring.pipelines.plan import (
    ArtifactSource,
    Constant,
    DagPlan,
    FromParent,
    FromTask,
    Importer,
    Interface,
    Leaf,
    Parameter,
    ParameterSource,
    Plan,
    Selected,
    TaskPlan,
    address_of,
    make_dag,
)
from mainspring.pipelines.platform import TaskPlatform, read_pipeline_platform, read_task_platform
from mainspring.pipelines.policies import read_loop, read_retry, read_trigger
from mainspring.pipelines.sources import (
    producers,
    read_artifact,
    read_output_artifact,
    read_output_parameter,
    read_parameter,
)
from mainspring.pipelines.task_config import TaskConfig, read_task_config
from mainspring.pipelines.wiring import Surroundings, check_interface, check_outputs, check_task

_OLD_TYPES = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}
_MAX_TASKS = 200_000
_MAX_ADDRESS = 480
_MAX_NAME = 200
_Given = TypeVar("_Given")
_Read = TypeVar("_Read")


def make_plan(spec: ir.PipelineSpec) -> Plan:
    """Validate a pipeline and plan it; raise `InvalidInput` with everything that is wrong or not supported."""
    platform = read_pipeline_platform(spec.platforms)
    planner = _Planner(spec, platform.executors)
    root = planner.root()
    if planner.problems:
        problems = list(dict.fromkeys(planner.problems))
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise InvalidInput(
            f"The pipeline {spec.pipeline_info.name!r} cannot run here: {shown}.",
            hint="Mend it and compile it again; nothing was started.",
        )
    return Plan(
        name=spec.pipeline_info.name,
        interface=_interface(spec.root),
        root=root,
        warnings=tuple(dict.fromkeys((*planner.warnings, *platform.warnings))),
        has_workspace=platform.has_workspace,
        timeout_ms=platform.timeout_ms,
    )


class _Planner:
    """Walks the components and collects problems and warnings instead of stopping at the first."""

    def __init__(self, spec: ir.PipelineSpec, platforms: Mapping[str, dict[str, Any]]) -> None:
        self.spec = spec
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._bodies: dict[str, Leaf | DagPlan] = {}
        self._interfaces: dict[str, Interface] = {}
        self._sizes: dict[int, int] = {}
        self._open: list[str] = []
        self._platforms = platforms

    def root(self) -> DagPlan:
        """Plan the pipeline; what is wrong is in ``problems``."""
        if self.spec.root.dag is None or not self.spec.root.dag.tasks:
            self.problems.append("the pipeline has no tasks")
            return make_dag({})
        self._refuse_all("", check_interface(_interface(self.spec.root)))
        root = self._dag(self.spec.root.dag, "", frozenset(_names(self.spec.root.input_definitions)))
        if self._sizes.get(id(root), 0) > _MAX_TASKS:
            self.problems.append(f"it has more than {_MAX_TASKS} tasks")
        return root

    def _dag(self, dag: ir.DagSpec, prefix: str, inputs: frozenset[str]) -> DagPlan:
        tasks: dict[str, TaskPlan] = {}
        size = 0
        for name, spec in dag.tasks.items():
            task = self._task(name, spec, address_of(prefix, name), dag)
            if task is not None:
                tasks[name] = task
                size += self._sizes.get(id(task.body), 1)
        around = Surroundings(names=frozenset(dag.tasks), tasks=tasks, inputs=inputs)
        for name, task in tasks.items():
            self._refuse_all(address_of(prefix, name), check_task(task, around))
        parameters = {name: read_output_parameter(output) for name, output in dag.outputs.parameters.items()}
        artifacts = {name: read_output_artifact(output) for name, output in dag.outputs.artifacts.items()}
        self._refuse_all(prefix, check_outputs("parameter", parameters, around))
        self._refuse_all(prefix, check_outputs("artifact", artifacts, around))
        planned = make_dag(self._ordered(tasks, prefix), parameters, artifacts)
        self._sizes[id(planned)] = size
        return planned

    def _task(self, name: str, spec: ir.TaskSpec, address: str, dag: ir.DagSpec) -> TaskPlan | None:
        if len(address) > _MAX_ADDRESS:
            self._refuse(f"{address[:60]}…", "its name and those of the dags around it are too long")
            return None
        if not _is_plain(name):
            self._refuse(repr(address), "its name cannot be the name of a folder")
            return None
        reference = spec.component_ref.name
        component = self.spec.components.get(reference)
        if component is None:
            self._refuse(address, f"its component {reference!r} is missing")
            return None
        body = self._body(reference, component, address)
        if body is None:
            return None
        config = self._task_config(component)
        platform = self._platform(component, address, config.handled)
        given = {**spec.inputs.parameters, **platform.inputs}
        self.warnings += [f"task {address}: its TaskConfig has no {field} here" for field in config.missing]
        caching = spec.caching_options
        interface = self._interface(reference, component, address)
        configs = {name for name, parameter in interface.parameters.items() if parameter.type == "TASK_CONFIG"}
        told = dict.fromkeys(configs if config.value else (), Constant(config.value))
        task = TaskPlan(
            name=name,
            component=reference,
            interface=interface,
            body=body,
            parameters={**told, **self._parameters(given, address)},
            artifacts=self._artifacts(spec, address),
            upstream=self._upstream(spec, given, address, dag),
            condition=self._expression(spec.trigger_policy.condition, address),
            loop=self._checked(read_loop, spec, address),
            runs_after_failure=self._checked(read_trigger, spec.trigger_policy, address) is True,
            retry=self._checked(read_retry, spec.retry_policy, address),
            caches=None if caching is None else caching.enable_cache,
            cache_key="" if caching is None else caching.cache_key,
            resources={} if "RESOURCES" in config.only_passed_on else self._resources(component, address),
            platform=platform,
        )
        return _looped_leaf(task) if task.loop is not None and not isinstance(body, DagPlan) else task

    def _body(self, reference: str, component: ir.ComponentSpec, address: str) -> Leaf | DagPlan | None:
        if reference in self._open:
            self._refuse(address, f"its component {reference!r} contains itself")
            return None
        if reference not in self._bodies:
            self._open.append(reference)
            body = self._new_body(component, address)
            self._open.pop()
            if body is None:
                return None
            self._bodies[reference] = body
        return self._bodies[reference]

    def _new_body(self, component: ir.ComponentSpec, address: str) -> Leaf | DagPlan | None:
        if component.dag is not None:
            return self._dag(component.dag, address, frozenset(_names(component.input_definitions)))
        executor = self.spec.deployment_spec.executors.get(component.executor_label)
        if executor is None:
            self._refuse(address, f"its executor {component.executor_label!r} is missing")
        elif executor.importer is not None:
            return self._importer(executor.importer, component, address)
        elif executor.container is None:
            kind = "a resolver" if executor.resolver is not None else "an executor that is not a container"
            self._refuse(address, f"{kind}, which only the platform it was made for can run")
        else:
            return self._lift(executor.container, component, address)
        return None

    def _lift(self, container: ir.ContainerSpec, component: ir.ComponentSpec, address: str) -> Leaf | None:
        try:
            lifted = lift_component(container)
        except InvalidInput as error:
            self._refuse(address, error.message.rstrip("."))
            return None
        if "ENV" in self._task_config(component).only_passed_on:
            lifted = msgspec.structs.replace(lifted, environment={})
        inputs, outputs = component.input_definitions, component.output_definitions
        words = (*lifted.command, *lifted.args) if isinstance(lifted, ContainerComponent) else ()
        for placeholder in check_command(
            words, frozenset(inputs.parameters), frozenset(_names(inputs)), frozenset(_names(outputs))
        ):
            self._refuse(address, f"the unknown placeholder {placeholder} in its command")
        return lifted

    def _importer(self, importer: ir.ImporterSpec, component: ir.ComponentSpec, address: str) -> Importer:
        constant = ir.constant_of(importer.artifact_uri)
        if constant is msgspec.UNSET and not importer.artifact_uri.runtime_parameter:
            self._refuse(address, "an importer without artifactUri")
        inputs = frozenset(component.input_definitions.parameters)
        for placeholder in check_placeholders(importer.metadata, inputs):
            self._refuse(address, f"the unknown placeholder {placeholder} in the metadata of an importer")
        if importer.download_to_workspace:
            self.warnings.append(f"task {address}: downloadToWorkspace is ignored here")
        return Importer(
            uri="" if constant is msgspec.UNSET else str(constant),
            parameter=importer.artifact_uri.runtime_parameter,
            type=importer.type_schema.title,
            schema_version=importer.type_schema.schema_version,
            metadata=importer.metadata,
        )

    def _resources(self, component: ir.ComponentSpec, address: str) -> dict[str, Any]:
        executor = self.spec.deployment_spec.executors.get(component.executor_label)
        if executor is None or executor.container is None or not executor.container.resources:
            return {}
        requests = executor.container.resources
        if not has_placeholder(requests):
            try:
                read_resources(requests)
            except InvalidInput as error:
                self._refuse(address, f"its resource requests: {error.message.rstrip('.')}")
        return requests

    def _task_config(self, component: ir.ComponentSpec) -> TaskConfig:
        executor = self.spec.deployment_spec.executors.get(component.executor_label)
        if executor is None or executor.container is None:
            return TaskConfig()
        return read_task_config(component, executor.container, self._platforms.get(component.executor_label) or {})

    def _platform(self, component: ir.ComponentSpec, address: str, handled: frozenset[str]) -> TaskPlatform:
        settings = self._platforms.get(component.executor_label)
        if not settings:
            return TaskPlatform()
        platform = self._checked(read_task_platform, settings, address)
        if platform is None:
            return TaskPlatform()
        self.warnings += [
            f"task {address}: its setting {name} is ignored here" for name in platform.ignored if name not in handled
        ]
        return platform

    def _interface(self, reference: str, component: ir.ComponentSpec, address: str) -> Interface:
        if reference not in self._interfaces:
            interface = self._interfaces[reference] = _interface(component)
            names = (*_names(component.input_definitions), *_names(component.output_definitions))
            for name in (name for name in names if not _is_plain(name)):
                self._refuse(address, f"its input or output {name!r} cannot be the name of a file")
            self._refuse_all(address, check_interface(interface))
        return self._interfaces[reference]

    def _parameters(self, given: dict[str, ir.ParameterInput], address: str) -> dict[str, ParameterSource]:
        names = frozenset(given)
        sources: dict[str, ParameterSource] = {}
        for name, item in given.items():
            source = read_parameter(item)
            if source is None:
                self._refuse(address, f"its input {name!r} has no source that can be read")
                continue
            if isinstance(source, Constant):
                for placeholder in check_placeholders(source.value, names - {name}):
                    self._refuse(address, f"the unknown placeholder {placeholder} in its input {name!r}")
            selector = self._expression(item.parameter_expression_selector, address)
            sources[name] = source if selector is None else Selected(source, selector)
        return sources

    def _artifacts(self, spec: ir.TaskSpec, address: str) -> dict[str, ArtifactSource]:
        sources: dict[str, ArtifactSource] = {}
        for name, given in spec.inputs.artifacts.items():
            source = read_artifact(given)
            if source is None:
                self._refuse(address, f"its input {name!r} has no source that can be read")
            else:
                sources[name] = source
        return sources

    def _upstream(
        self, spec: ir.TaskSpec, given: dict[str, ir.ParameterInput], address: str, dag: ir.DagSpec
    ) -> tuple[str, ...]:
        """Return dependentTasks and every producer: neither list alone is complete."""
        named = dict.fromkeys((*spec.dependent_tasks, *producers(given.values(), spec.inputs.artifacts.values())))
        for name in spec.dependent_tasks:
            if name not in dag.tasks:
                self._refuse(address, f"it waits for the task {name!r}, which is not in its dag")
        return tuple(name for name in named if name in dag.tasks)

    def _expression(self, text: str, address: str) -> Expression | None:
        return self._checked(parse_expression, text, address) if text else None

    def _checked(self, read: Callable[[_Given], _Read], given: _Given, address: str) -> _Read | None:
        """Read a part of a task; when it makes no sense, note why and go on without it."""
        try:
            return read(given)
        except InvalidInput as error:
            self._refuse(address, error.message.rstrip("."))
            return None

    def _ordered(self, tasks: dict[str, TaskPlan], prefix: str) -> dict[str, TaskPlan]:
        """Put each task behind those it waits for, otherwise in the order they are written."""
        counts = {name: sum(other in tasks for other in task.upstream) for name, task in tasks.items()}
        behind: dict[str, list[str]] = {name: [] for name in tasks}
        for name, task in tasks.items():
            for other in task.upstream:
                if other in behind:
                    behind[other].append(name)
        free = deque(name for name, count in counts.items() if not count)
        ordered: dict[str, TaskPlan] = {}
        while free:
            name = free.popleft()
            ordered[name] = msgspec.structs.replace(
                tasks[name], upstream=tuple(other for other in tasks[name].upstream if other in tasks)
            )
            for other in behind[name]:
                counts[other] -= 1
                if not counts[other]:
                    free.append(other)
        if stuck := {name: task for name, task in tasks.items() if name not in ordered}:
            cycle = _find_cycle(stuck)
            shown = " after ".join((*cycle[:5], "…") if len(cycle) > 5 else (*cycle, cycle[0]))
            self._refuse(address_of(prefix, cycle[0]), f"it is in a cycle of tasks ({shown})")
        return ordered

    def _refuse_all(self, address: str, problems: Iterable[str]) -> None:
        for problem in problems:
            self._refuse(address, problem)

    def _refuse(self, address: str, construct: str) -> None:
        self.problems.append(f"{f'task {address}' if address else 'the pipeline itself'}: {construct}")


def _find_cycle(stuck: Mapping[str, TaskPlan]) -> list[str]:
    """Return the tasks of a cycle, each after the one that follows it here, given tasks that wait for one another."""
    walked: list[str] = []
    name = min(stuck)
    while name not in walked:
        walked.append(name)
        name = next(other for other in stuck[name].upstream if other in stuck)
    cycle = walked[walked.index(name) :]
    first = cycle.index(min(cycle))
    return cycle[first:] + cycle[:first]


def _looped_leaf(task: TaskPlan) -> TaskPlan:
    """Put a component that is iterated itself into a dag of its own, so that every loop has a body of tasks."""
    inner = msgspec.structs.replace(
        task,
        loop=None,
        condition=None,
        upstream=(),
        runs_after_failure=False,
        parameters={name: FromParent(name) for name in (*task.parameters, *task.interface.parameters)},
        artifacts={name: FromParent(name) for name in (*task.artifacts, *task.interface.artifacts)},
    )
    body = make_dag(
        {task.name: inner},
        {name: (FromTask(task.name, name),) for name in task.interface.output_parameters},
        {name: (FromTask(task.name, name),) for name in task.interface.output_artifacts},
    )
    return msgspec.structs.replace(task, body=body)


def _is_plain(name: str) -> bool:
    """Say whether a name can be that of a file: files are named after tasks, inputs and outputs."""
    return bool(name) and name not in (".", "..") and "/" not in name and name.isprintable() and len(name) <= _MAX_NAME


def _names(definitions: ir.Definitions) -> tuple[str, ...]:
    return (*definitions.parameters, *definitions.artifacts)


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
