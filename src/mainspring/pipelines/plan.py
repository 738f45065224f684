"""The plan: a compiled pipeline as a tree of tasks in an order that can be run. `planner` makes it.

A task's address is its path through the dags, with the number of the iteration after the name of a loop:
``train-all/2/condition-1/fit``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mainspring.pipelines import ir
from mainspring.pipelines.component import Component
from mainspring.pipelines.expressions import Expression
from mainspring.pipelines.platform import TaskPlatform


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


class Selected(msgspec.Struct, frozen=True):
    """A part of another value, taken out by an expression."""

    source: ParameterSource
    selector: Expression


ParameterSource = Constant | FromParent | FromTask | StatusOf | Selected
ArtifactSource = FromParent | FromTask


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A declared parameter; ``default`` is `msgspec.UNSET` when there is none."""

    type: str
    default: Any = msgspec.UNSET
    optional: bool = False
    literals: tuple[Any, ...] = ()


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """What a component takes and gives."""

    parameters: Mapping[str, Parameter]
    artifacts: Mapping[str, ir.ArtifactSpec]
    output_parameters: Mapping[str, Parameter]
    output_artifacts: Mapping[str, ir.ArtifactSpec]

    def with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what placeholders see: the given values, and the defaults of what is not given.

        To ``IfPresent`` an input that has a default is there, as in KFP's backend.
        """
        defaults = {name: item.default for name, item in self.parameters.items() if item.default is not msgspec.UNSET}
        return {**defaults, **{name: value for name, value in given.items() if value is not None}}


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failed task runs again, and after how many milliseconds."""

    count: int = 0
    delay_ms: int = 0
    factor: float = 2.0
    longest_ms: int = 3_600_000


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """The body runs once per item: of a list in the pipeline, of an input parameter, or of an artifact list."""

    item: str
    """The input of the body that takes the item."""
    raw: tuple[Any, ...] | None = None
    parameter: str = ""
    artifact: str = ""
    limit: int = 0
    """How many iterations run at the same time; 0 for all."""


class Importer(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that exists already, taken into the pipeline by the engine itself."""

    uri: str
    """The address, or empty when it is the input ``parameter``."""
    parameter: str = ""
    type: str = "system.Artifact"
    schema_version: str = "0.0.1"
    metadata: Mapping[str, Any] = {}

    @property
    def name(self) -> str:
        """What it is called in records."""
        return "importer"

    @property
    def digest(self) -> str:
        """An importer's result is not looked up by its definition."""
        return ""


Leaf = Component | Importer


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One task: where its inputs come from, what it waits for and what it runs."""

    name: str
    interface: Interface
    body: Leaf | DagPlan
    parameters: Mapping[str, ParameterSource]
    artifacts: Mapping[str, ArtifactSource]
    upstream: tuple[str, ...]
    component: str = ""
    condition: Expression | None = None
    loop: Loop | None = None
    runs_after_failure: bool = False
    retry: Retry | None = None
    """None: as the nested pipeline, loop or branch it is in."""
    caches: bool | None = None
    """None: as the nested pipeline it is in."""
    cache_key: str = ""
    resources: Mapping[str, Any] = {}
    """Resource requests as they are written; they may hold placeholders."""
    platform: TaskPlatform = TaskPlatform()


class DagPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks, each after those it waits for, and where the dag's outputs come from."""

    tasks: Mapping[str, TaskPlan]
    parameters: Mapping[str, tuple[FromTask, ...]] = {}
    """Sources of each output parameter; several are branches of which exactly one runs."""
    artifacts: Mapping[str, tuple[FromTask, ...]] = {}
    downstream: Mapping[str, tuple[str, ...]] = {}
    """The tasks that wait for each task."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that can be run."""

    name: str
    interface: Interface
    root: DagPlan
    warnings: tuple[str, ...] = ()
    has_workspace: bool = False
    timeout_ms: int = 0


def make_dag(
    tasks: Mapping[str, TaskPlan],
    parameters: Mapping[str, tuple[FromTask, ...]] | None = None,
    artifacts: Mapping[str, tuple[FromTask, ...]] | None = None,
) -> DagPlan:
    """Make a dag of tasks that are in order, with the edges in the other direction worked out."""
    downstream: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for other in task.upstream:
            downstream[other].append(name)
    return DagPlan(
        tasks=tasks,
        parameters=parameters or {},
        artifacts=artifacts or {},
        downstream={name: tuple(others) for name, others in downstream.items() if others},
    )


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A task that runs something, or a loop nobody has looked into yet, at its address."""

    address: str
    task: TaskPlan
    upstream: tuple[str, ...]
    """Addresses of the tasks and groups of tasks it waits for; inside a group, at least those the group waits for."""


def places(dag: DagPlan, prefix: str = "", inherited: tuple[str, ...] = ()) -> Iterator[Place]:
    """Iterate over what a dag holds, through all nesting but not into loops, in an order it can run in."""
    for task in dag.tasks.values():
        upstream = tuple(address_of(prefix, name) for name in task.upstream) or inherited
        yield from places_of(task, address_of(prefix, task.name), upstream)


def places_of(task: TaskPlan, address: str, upstream: tuple[str, ...] = ()) -> Iterator[Place]:
    """Iterate over what is at or below the address of a task, not into loops."""
    if isinstance(task.body, DagPlan) and task.loop is None:
        yield from places(task.body, address, upstream)
    else:
        yield Place(address=address, task=task, upstream=upstream)


def leaves(dag: DagPlan, prefix: str = "") -> Iterator[tuple[str, TaskPlan]]:
    """Iterate over every task that runs something, once, those in loops too (without a number in the address)."""
    for task in dag.tasks.values():
        address = address_of(prefix, task.name)
        if isinstance(task.body, DagPlan):
            yield from leaves(task.body, address)
        else:
            yield address, task


def address_of(prefix: str, name: str | int) -> str:
    """Return the address of a task, or of an iteration, inside the group at ``prefix`` (empty for the root)."""
    return f"{prefix}/{name}" if prefix else str(name)
