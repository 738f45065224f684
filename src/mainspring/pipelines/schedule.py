"""The decider: given the plan and how tasks ended, say which tasks can start, which never will, and how it all ends.

Pure: no clock, no files, no processes; the same plan and the same ends, told in any order, give the same decisions.
Incremental: an end costs as much as it has consequences, however large the pipeline is, and what nobody needs any
more is forgotten. Nested pipelines, branches, loops and their iterations have no records of their own: how they
stand follows from the tasks in them, so a run is resumed by telling a new `Scheduler` what is recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from mainspring.core import InvalidInput, Json
from mainspring.pipelines.bindings import (
    CHANNEL,
    Absent,
    Inputs,
    OutcomeState,
    collect,
    condition_holds,
    dag_outputs,
    loop_items,
    resolve_inputs,
    with_item,
)
from mainspring.pipelines.plan import DagPlan, Place, Plan, Retry, StatusOf, TaskPlan, address_of, places, places_of
from mainspring.pipelines.values import Values

RunState = Literal["RUNNING", "COMPLETE", "FAILED", "CANCELED"]
ENDED = ("COMPLETE", "CACHED", "FAILED", "CANCELED")
_NO_RETRY = Retry()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended: COMPLETE, CACHED, FAILED or CANCELED."""

    state: str
    outputs: Values = Values()
    error: str = ""
    inputs: Values | None = None
    """What it ran with; a record with other inputs than the task gets now does not count. None: not known."""


class ReadyTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose inputs are all there."""

    address: str
    task: TaskPlan
    inputs: Values
    given: dict[str, Any]
    """Everything its placeholders can name."""
    retry: Retry
    caches: bool


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided since the last time somebody asked."""

    ready: tuple[ReadyTask, ...]
    skipped: dict[str, str]
    """Address of each task that will never run, and why."""
    canceled: tuple[str, ...]
    unrunnable: dict[str, str]
    """Address of each task that fails without running, and why."""
    opened: tuple[tuple[str, tuple[Place, ...]], ...]
    """Loops that were looked into: the address, and what their iterations hold."""
    empty_loops: tuple[str, ...]


class _Node:
    """One task of one dag."""

    __slots__ = ("dag", "error", "failed_task", "outputs", "position", "readers", "state", "task", "waiting")

    def __init__(self, task: TaskPlan, dag: _Dag, position: int) -> None:
        self.task = task
        self.dag = dag
        self.position = position
        self.state: OutcomeState = "WAITING"
        self.outputs = Values()
        self.failed_task = ""
        self.error = ""
        self.waiting = len(task.upstream)
        self.readers = len(dag.plan.downstream.get(task.name, ()))

    @property
    def address(self) -> str:
        return address_of(self.dag.address, self.task.name)


class _Dag:
    """One use of a dag: the pipeline itself, a nested one, a branch, or one iteration of a loop."""

    __slots__ = (
        *("address", "caches", "canceled", "failed", "inputs", "iteration", "kept"),
        *("nodes", "open", "parent", "plan", "retry", "upstream"),
    )

    def __init__(
        self, plan: DagPlan, address: str, inputs: Values, *, parent: _Node | None, loop: _Loop | None, iteration: int,
        retry: Retry, caches: bool | None, upstream: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.plan = plan
        self.address = address
        self.inputs = inputs
        self.parent = parent
        self.iteration = (loop, iteration) if loop is not None else None
        self.retry = retry
        self.caches = caches
        self.upstream = upstream
        self.nodes = {task.name: _Node(task, self, position) for position, task in enumerate(plan.tasks.values())}
        self.open = len(self.nodes)
        self.failed: _Node | None = None
        self.canceled = False
        self.kept = {
            source.task for group in (plan.parameters, plan.artifacts) for found in group.values() for source in found
        }

    def given(self, name: str) -> Json:
        dag: _Dag | None = self
        while dag is not None:
            if name in dag.inputs.parameters or not name.startswith(CHANNEL):
                return dag.inputs.parameters.get(name)
            dag = None if dag.parent is None else dag.parent.dag
        return None

    def outcome(self, name: str) -> _Node:
        return self.nodes[name]


class _Loop:
    """A loop in progress."""

    __slots__ = ("active", "canceled", "failed", "inputs", "items", "next", "node", "results")

    def __init__(self, node: _Node, inputs: Values, items: tuple[Any, ...]) -> None:
        self.node = node
        self.inputs = inputs
        self.items = items
        self.next = 0
        self.active = 0
        self.results: dict[int, Values] = {}
        self.failed: tuple[int, str, str] | None = None
        self.canceled = False


class Scheduler:
    """Follows one run. Tell it with `finish` how tasks end; ask with `take` what follows."""

    def __init__(
        self, plan: Plan, arguments: Values, job: Mapping[str, str], records: Mapping[str, Recorded] | None = None
    ) -> None:
        self._job = job
        self._records = dict(records or {})
        self._queue: deque[_Node | _Dag] = deque()
        self._active: dict[str, _Node] = {}
        self._canceling = False
        self._begin_changes()
        self.state: RunState = "RUNNING"
        self.error = ""
        self.outputs = Values()
        self._enter_dag(
            _Dag(
                plan.root, "", arguments, parent=None, loop=None, iteration=0, retry=_NO_RETRY, caches=None, upstream=()
            )
        )
        self._work()

    @property
    def active(self) -> Iterable[str]:
        """Addresses of the tasks that are ready or running."""
        return self._active.keys()

    def take(self) -> Changes:
        """Return what was decided since the last call."""
        changes = Changes(
            ready=tuple(self._ready),
            skipped=self._skipped,
            canceled=tuple(self._canceled),
            unrunnable=self._unrunnable,
            opened=tuple(self._opened),
            empty_loops=tuple(self._empty_loops),
        )
        self._begin_changes()
        return changes

    def finish(self, address: str, end: Recorded) -> None:
        """Take note that a task ended; tasks that end once more are ignored."""
        node = self._active.pop(address, None)
        if node is not None:
            self._settle_recorded(node, address, end)
            self._work()

    def cancel(self) -> None:
        """Start nothing more but exit tasks; what runs is for the caller to end and to `finish`."""
        self._canceling = True

    def _begin_changes(self) -> None:
        self._ready: list[ReadyTask] = []
        self._skipped: dict[str, str] = {}
        self._canceled: list[str] = []
        self._unrunnable: dict[str, str] = {}
        self._opened: list[tuple[str, tuple[Place, ...]]] = []
        self._empty_loops: list[str] = []

    def _work(self) -> None:
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, _Dag):
                self._close_dag(item)
            else:
                self._enter(item)

    def _enter_dag(self, dag: _Dag) -> None:
        if not dag.nodes:
            self._queue.append(dag)
        self._queue.extend(node for node in dag.nodes.values() if not node.waiting)

    def _enter(self, node: _Node) -> None:
        task, dag = node.task, node.dag
        before = {name: dag.nodes[name].state for name in task.upstream}
        if not task.runs_after_failure:
            if self._canceling or "CANCELED" in before.values():
                self._leave_out(node, "the run was canceled", "CANCELED")
                return
            failed = next((name for name, state in before.items() if state in ("FAILED", "BLOCKED")), None)
            if failed is not None:
                self._leave_out(node, f"task {failed} before it failed", "BLOCKED")
                return
        elif self._canceling and not is_exit_task(task):
            self._leave_out(node, "the run was canceled", "CANCELED")
            return
        self._resolve(node)

    def _resolve(self, node: _Node) -> None:
        task, address = node.task, node.address
        job = {**self._job, "pipeline_task_name": task.name, "pipeline_task_uuid": f"{self._job['run_id']}/{address}"}
        try:
            inputs = resolve_inputs(task, node.dag, job)
            if task.condition is not None and not condition_holds(task, inputs.values):
                self._leave_out(node, "its condition was false", "SKIPPED")
            else:
                self._start(node, address, inputs)
        except Absent as absent:
            if absent.skipped:
                self._leave_out(node, absent.reason, "SKIPPED")
            else:
                self._fail(node, absent.reason)
        except InvalidInput as error:
            self._fail(node, error.message)

    def _start(self, node: _Node, address: str, inputs: Inputs) -> None:
        task, dag = node.task, node.dag
        upstream = tuple(address_of(dag.address, name) for name in task.upstream) or dag.upstream
        if task.loop is not None:
            self._start_loop(_Loop(node, inputs.values, loop_items(task, inputs.values)), address)
        elif isinstance(task.body, DagPlan):
            self._enter_dag(self._inner(node, address, inputs.values, None, 0, upstream))
        else:
            self._start_leaf(node, address, inputs)

    def _start_leaf(self, node: _Node, address: str, inputs: Inputs) -> None:
        task, dag = node.task, node.dag
        recorded = self._records.pop(address, None)
        if recorded is not None and recorded.state in ENDED and _ran_with(recorded, inputs.values):
            self._settle_recorded(node, address, recorded)
            return
        self._active[address] = node
        retry = dag.retry if task.retry is None else task.retry
        caches = bool(task.caches) and dag.caches is not False
        self._ready.append(
            ReadyTask(address=address, task=task, inputs=inputs.values, given=inputs.given, retry=retry, caches=caches)
        )

    def _inner(
        self, node: _Node, address: str, inputs: Values, loop: _Loop | None, iteration: int, upstream: tuple[str, ...]
    ) -> _Dag:
        task, dag = node.task, node.dag
        assert isinstance(task.body, DagPlan)
        caches = False if task.caches is False else dag.caches
        retry = dag.retry if task.retry is None else task.retry
        return _Dag(
            task.body, address, inputs, parent=node, loop=loop, iteration=iteration, retry=retry, caches=caches,
            upstream=upstream,
        )  # fmt: skip

    def _start_loop(self, loop: _Loop, address: str) -> None:
        if not loop.items:
            self._empty_loops.append(address)
            self._end_loop(loop)
            return
        plan = loop.node.task.loop
        assert plan is not None
        for _ in range(min(plan.limit or len(loop.items), len(loop.items))):
            self._next_iteration(loop, address)

    def _next_iteration(self, loop: _Loop, address: str) -> None:
        node, index = loop.node, loop.next
        assert isinstance(node.task.body, DagPlan)
        loop.next += 1
        loop.active += 1
        inside = address_of(address, index)
        upstream = tuple(address_of(node.dag.address, name) for name in node.task.upstream) or node.dag.upstream
        self._opened.append((address, tuple(places(node.task.body, inside, upstream))))
        inputs = with_item(node.task, loop.inputs, loop.items[index])
        self._enter_dag(self._inner(node, inside, inputs, loop, index, upstream))

    def _close_dag(self, dag: _Dag) -> None:
        state: OutcomeState = "COMPLETE"
        outputs, failed_task, error = Values(), "", ""
        if dag.canceled:
            state, error = "CANCELED", "The run was canceled."
        elif dag.failed is not None:
            state, failed_task, error = "FAILED", dag.failed.failed_task, dag.failed.error
        else:
            try:
                outputs = dag_outputs(dag.plan, dag)
            except InvalidInput as problem:
                state, failed_task, error = "FAILED", dag.address or "(the pipeline)", problem.message
        if dag.iteration is not None:
            self._end_iteration(*dag.iteration, state, outputs, failed_task, error)
        elif dag.parent is not None:
            self._settle(dag.parent, state, outputs, failed_task, error)
        else:
            self.state = "COMPLETE" if state == "COMPLETE" else "CANCELED" if state == "CANCELED" else "FAILED"
            self.outputs = outputs
            self.error = f"Task {failed_task} failed: {error}" if state == "FAILED" else error

    def _end_iteration(
        self, loop: _Loop, index: int, state: OutcomeState, outputs: Values, failed_task: str, error: str
    ) -> None:
        loop.active -= 1
        if state == "COMPLETE":
            loop.results[index] = outputs
        elif state == "CANCELED":
            loop.canceled = True
        elif loop.failed is None or index < loop.failed[0]:
            loop.failed = (index, failed_task, error)
        if loop.next < len(loop.items) and not self._canceling:
            self._next_iteration(loop, loop.node.address)
        elif not loop.active:
            loop.canceled = loop.canceled or loop.next < len(loop.items)
            self._end_loop(loop)

    def _end_loop(self, loop: _Loop) -> None:
        body = loop.node.task.body
        assert isinstance(body, DagPlan)
        if loop.canceled:
            self._settle(loop.node, "CANCELED", Values(), "", "The run was canceled.")
        elif loop.failed is not None:
            self._settle(loop.node, "FAILED", Values(), loop.failed[1], loop.failed[2])
        else:
            results = [loop.results[index] for index in sorted(loop.results)]
            self._settle(loop.node, "COMPLETE", collect(body, results), "", "")

    def _settle_recorded(self, node: _Node, address: str, end: Recorded) -> None:
        if end.state == "CANCELED":
            self._settle(node, "CANCELED", Values(), "", end.error)
        elif end.state == "FAILED":
            self._settle(node, "FAILED", Values(), address, end.error)
        else:
            self._settle(node, "COMPLETE", end.outputs, "", "")

    def _settle(self, node: _Node, state: OutcomeState, outputs: Values, failed_task: str, error: str) -> None:
        dag, name = node.dag, node.task.name
        node.state, node.outputs, node.failed_task, node.error = state, outputs, failed_task, error
        if state == "FAILED" and (dag.failed is None or node.position < dag.failed.position):
            dag.failed = node
        dag.canceled = dag.canceled or state == "CANCELED"
        for other in dag.plan.downstream.get(name, ()):
            behind = dag.nodes[other]
            behind.waiting -= 1
            if not behind.waiting:
                self._queue.append(behind)
        for other in node.task.upstream:
            before = dag.nodes[other]
            before.readers -= 1
            if not before.readers and other not in dag.kept:
                before.outputs = Values()
        dag.open -= 1
        if not dag.open:
            self._queue.append(dag)

    def _leave_out(self, node: _Node, reason: str, state: OutcomeState) -> None:
        found = [place.address for place in places_of(node.task, node.address)]
        if state == "CANCELED":
            self._canceled += found
        else:
            self._skipped.update(dict.fromkeys(found, reason))
        for address in found:
            self._records.pop(address, None)
        self._settle(node, state, Values(), "", reason)

    def _fail(self, node: _Node, reason: str) -> None:
        address = node.address
        if isinstance(node.task.body, DagPlan):
            self._skipped.update({place.address: reason for place in places_of(node.task, address)})
        else:
            self._unrunnable[address] = reason
        self._settle(node, "FAILED", Values(), address, reason)


def retry_delay(retry: Retry, failures: int) -> int | None:
    """Return the milliseconds to wait before the next attempt after ``failures`` failed ones; None to give up."""
    if failures > retry.count:
        return None
    return round(min(retry.delay_ms * retry.factor ** (failures - 1), retry.longest_ms))


def is_exit_task(task: TaskPlan) -> bool:
    """Say whether a task cleans up behind others, whatever became of them: it also runs when a run is canceled."""
    return task.runs_after_failure and (
        any(isinstance(source, StatusOf) for source in task.parameters.values())
        or all(name.startswith("exit-handler-") for name in task.upstream)
    )


def _ran_with(recorded: Recorded, inputs: Values) -> bool:
    if recorded.inputs is None:
        return True
    encode = msgspec.json.Encoder(order="deterministic").encode
    return encode(recorded.inputs) == encode(inputs)
