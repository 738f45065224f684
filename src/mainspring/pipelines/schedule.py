"""The decider: given the plan and what is recorded, say which tasks can start, which never will, and how it ends.

A pure function. State of nested dags is derived from the tasks in them, so only tasks that run something have
records, and a run is resumed by asking again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mainspring.core import InvalidInput
from mainspring.pipelines.expressions import evaluate_condition
from mainspring.pipelines.placeholders import fill_placeholders
from mainspring.pipelines.plan import (
    Constant,
    DagPlan,
    FromParent,
    FromTask,
    Plan,
    Retry,
    StatusOf,
    TaskPlan,
    address_of,
    leaves_of,
)
from mainspring.pipelines.values import ArtifactValue, Values, fit_parameter

OutcomeState = Literal["WAITING", "COMPLETE", "FAILED", "SKIPPED", "BLOCKED"]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of a task: PENDING, RUNNING, COMPLETE, CACHED, FAILED or SKIPPED."""

    state: str
    outputs: Values = Values()
    error: str = ""


class ReadyTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose inputs are all there."""

    address: str
    task: TaskPlan
    inputs: Values


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """The decision."""

    ready: tuple[ReadyTask, ...]
    skipped: dict[str, str]
    """Address of each task that will never run, and why."""
    unrunnable: dict[str, str]
    """Address of each task that fails without running, and why."""
    state: Literal["RUNNING", "COMPLETE", "FAILED"]
    error: str
    outputs: Values


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task or dag stands. SKIPPED: a condition said no; BLOCKED: something before it failed."""

    state: OutcomeState
    outputs: Values = Values()
    failed_task: str = ""
    error: str = ""


class _Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What the tasks of one dag can see: the dag's inputs and how their siblings stand."""

    inputs: Values
    siblings: dict[str, _Outcome]


class _Absent(Exception):
    """A required input has no value; ``skipped`` when its producer was skipped by a condition."""

    def __init__(self, reason: str, *, skipped: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.skipped = skipped


def decide(plan: Plan, arguments: dict[str, Any], records: Mapping[str, Recorded], job: Mapping[str, str]) -> Schedule:
    """Decide what happens next; ``records`` by task address, ``job`` the values of the job's placeholders."""
    walk = _Walk(records, job)
    outcome = walk.dag(plan.root, "", Values(parameters=arguments))
    state: Literal["RUNNING", "COMPLETE", "FAILED"] = "RUNNING"
    if outcome.state != "WAITING":
        state = "COMPLETE" if outcome.state == "COMPLETE" else "FAILED"
    return Schedule(
        ready=tuple(walk.ready),
        skipped=walk.skipped,
        unrunnable=walk.unrunnable,
        state=state,
        error=f"Task {outcome.failed_task} failed: {outcome.error}" if state == "FAILED" else "",
        outputs=outcome.outputs,
    )


def retry_delay(retry: Retry, failures: int) -> int | None:
    """Return the milliseconds to wait before the next attempt after ``failures`` failed ones; None to give up."""
    if failures > retry.count:
        return None
    return round(min(retry.delay_ms * retry.factor ** (failures - 1), retry.longest_ms))


class _Walk:
    """One walk over the plan; collects what it finds on the way."""

    def __init__(self, records: Mapping[str, Recorded], job: Mapping[str, str]) -> None:
        self.records = records
        self.job = job
        self.ready: list[ReadyTask] = []
        self.skipped: dict[str, str] = {}
        self.unrunnable: dict[str, str] = {}

    def dag(self, dag: DagPlan, prefix: str, inputs: Values) -> _Outcome:
        scope = _Scope(inputs=inputs, siblings={})
        for name, task in dag.tasks.items():
            scope.siblings[name] = self._task(task, address_of(prefix, name), scope)
        outcomes = scope.siblings.values()
        if any(outcome.state == "WAITING" for outcome in outcomes):
            return _Outcome(state="WAITING")
        for outcome in outcomes:
            if outcome.state == "FAILED":
                return outcome
        try:
            return _Outcome(state="COMPLETE", outputs=_dag_outputs(dag, scope))
        except InvalidInput as error:
            return _Outcome(state="FAILED", failed_task=prefix or "(the pipeline)", error=error.message)

    def _task(self, task: TaskPlan, address: str, scope: _Scope) -> _Outcome:
        recorded = self.records.get(address)
        if recorded is not None and recorded.state in ("RUNNING", "COMPLETE", "CACHED", "FAILED"):
            return _outcome_of(recorded, address)
        upstream = {name: scope.siblings[name].state for name in task.upstream}
        if "WAITING" in upstream.values():
            return _Outcome(state="WAITING")
        failed = [name for name, state in upstream.items() if state in ("FAILED", "BLOCKED")]
        if failed and not task.runs_after_failure:
            return self._skip(task, address, f"task {failed[0]} before it failed", "BLOCKED")
        return self._enter(task, address, scope)

    def _enter(self, task: TaskPlan, address: str, scope: _Scope) -> _Outcome:
        try:
            inputs = self._inputs(task, address, scope)
            if task.condition is not None and not _holds(task, inputs):
                return self._skip(task, address, "its condition was false", "SKIPPED")
        except _Absent as absent:
            return self._fail(task, address, absent.reason, skipped=absent.skipped)
        except InvalidInput as error:
            return self._fail(task, address, error.message)
        if isinstance(task.body, DagPlan):
            return self.dag(task.body, address, inputs)
        self.ready.append(ReadyTask(address=address, task=task, inputs=inputs))
        return _Outcome(state="WAITING")

    def _inputs(self, task: TaskPlan, address: str, scope: _Scope) -> Values:
        given = {name: _parameter(source, scope) for name, source in task.parameters.items()}
        job = {**self.job, "pipeline_task_name": task.name, "pipeline_task_uuid": f"{self.job['run_id']}/{address}"}
        for name, source in task.parameters.items():
            if isinstance(source, Constant):
                given[name] = fill_placeholders(source.value, given, job)
            elif isinstance(source, StatusOf):
                given[name] = _final_status(scope.siblings[source.task], source.task, job)
        return Values(parameters=_fitted(task, given, scope), artifacts=_artifacts(task, scope))

    def _skip(self, task: TaskPlan, address: str, reason: str, state: OutcomeState) -> _Outcome:
        self.skipped.update((leaf, reason) for leaf, _ in leaves_of(task, address))
        return _Outcome(state=state)

    def _fail(self, task: TaskPlan, address: str, reason: str, *, skipped: bool = False) -> _Outcome:
        if skipped:
            return self._skip(task, address, reason, "SKIPPED")
        if isinstance(task.body, DagPlan):
            self._skip(task, address, reason, "BLOCKED")
        else:
            self.unrunnable[address] = reason
        return _Outcome(state="FAILED", failed_task=address, error=reason)


def _outcome_of(recorded: Recorded, address: str) -> _Outcome:
    if recorded.state == "RUNNING":
        return _Outcome(state="WAITING")
    if recorded.state == "FAILED":
        return _Outcome(state="FAILED", failed_task=address, error=recorded.error)
    return _Outcome(state="COMPLETE", outputs=recorded.outputs)


def _holds(task: TaskPlan, inputs: Values) -> bool:
    assert task.condition is not None
    artifacts = {
        name: {"artifacts": [{"name": value.name, "uri": value.uri, "metadata": value.metadata}]}
        for name, value in inputs.artifacts.items()
    }
    return evaluate_condition(
        task.condition, {"inputs": {"parameter_values": inputs.parameters, "artifacts": artifacts}}
    )


def _parameter(source: object, scope: _Scope) -> Any:  # noqa: ANN401 - any JSON value
    match source:
        case FromParent(name):
            return scope.inputs.parameters.get(name)
        case FromTask(task, key):
            return scope.siblings[task].outputs.parameters.get(key)
    return None


def _fitted(task: TaskPlan, given: dict[str, Any], scope: _Scope) -> dict[str, Any]:
    """Check the given parameters against the declared ones; a dag gets the default or null for what is missing."""
    is_dag = isinstance(task.body, DagPlan)
    fitted = {name: value for name, value in given.items() if is_dag and name not in task.interface.parameters}
    for name, parameter in task.interface.parameters.items():
        value = given.get(name)
        if value is not None:
            try:
                fitted[name] = fit_parameter(value, parameter)
            except InvalidInput as error:
                raise InvalidInput(f"Its parameter {name!r}: {error.message}.") from error
        elif not parameter.optional:
            raise _absent(name, task.parameters.get(name), scope)
        elif is_dag:
            fitted[name] = None if parameter.default is msgspec.UNSET else parameter.default
    return fitted


def _artifacts(task: TaskPlan, scope: _Scope) -> dict[str, ArtifactValue]:
    found: dict[str, ArtifactValue] = {}
    for name, source in task.artifacts.items():
        values = scope.inputs if isinstance(source, FromParent) else scope.siblings[source.task].outputs
        value = values.artifacts.get(source.name if isinstance(source, FromParent) else source.key)
        if value is not None:
            found[name] = value
    for name, spec in task.interface.artifacts.items():
        if name not in found and not spec.is_optional:
            raise _absent(name, task.artifacts.get(name), scope)
    return found


def _absent(name: str, source: object, scope: _Scope) -> _Absent:
    if not isinstance(source, FromTask):
        return _Absent(f"Its input {name!r} has no value.", skipped=False)
    producer = scope.siblings[source.task].state
    if producer == "SKIPPED":
        return _Absent(f"task {source.task}, whose output it needs, was skipped", skipped=True)
    reason = "failed" if producer in ("FAILED", "BLOCKED") else f"gave no {source.key!r}"
    return _Absent(f"Its input {name!r} has no value: task {source.task} {reason}.", skipped=False)


def _final_status(outcome: _Outcome, task: str, job: Mapping[str, str]) -> dict[str, Any]:
    failed = outcome.state in ("FAILED", "BLOCKED")
    return {
        "state": "FAILED" if failed else "SUCCEEDED",
        "error": {"code": 9, "message": outcome.error} if failed else {},
        "pipelineJobResourceName": job["pipeline_job_resource_name"],
        "pipelineTaskName": task,
    }


def _dag_outputs(dag: DagPlan, scope: _Scope) -> Values:
    parameters, artifacts = {}, {}
    for name, sources in dag.parameters.items():
        source = _chosen(name, sources, scope)
        if source is not None and source.key in scope.siblings[source.task].outputs.parameters:
            parameters[name] = scope.siblings[source.task].outputs.parameters[source.key]
    for name, sources in dag.artifacts.items():
        source = _chosen(name, sources, scope)
        if source is not None and source.key in scope.siblings[source.task].outputs.artifacts:
            artifacts[name] = scope.siblings[source.task].outputs.artifacts[source.key]
    return Values(parameters=parameters, artifacts=artifacts)


def _chosen(name: str, sources: tuple[FromTask, ...], scope: _Scope) -> FromTask | None:
    ran = [source for source in sources if scope.siblings[source.task].state == "COMPLETE"]
    if len(sources) > 1 and len(ran) != 1:
        raise InvalidInput(f"Exactly one of the branches that give {name!r} has to run, and {len(ran)} did.")
    return ran[0] if ran else None
