"""What a run leaves behind: its rows, its executions and artifacts in the lineage graph, its events.

One function per transition; each is called inside the caller's transaction, so a transition is recorded whole or
not at all. Whoever records for a run holds its token; whoever records for a single task holds that task's attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from mainspring import lineage
from mainspring.core import Clock, Conflict, Json
from mainspring.db import Session
from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.launchers import TaskUsage
from mainspring.pipelines.leases import LostLease, Presence, check_token, find_worker, forget_dead, is_alive
from mainspring.pipelines.plan import Place
from mainspring.pipelines.records import (
    OPENED,
    PipelineRun,
    TaskRun,
    delete_offers,
    get_run,
    hold_run,
    insert_tasks,
    list_tasks,
    read_tasks,
    update_run,
    update_task,
)
from mainspring.pipelines.requirements import installed_versions
from mainspring.pipelines.schedule import ReadyTask
from mainspring.pipelines.values import ArtifactValue, Values

CONTEXT = "pipeline_run"
INTERRUPTED = "The engine stopped while the task ran."


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was taken."""

    run: PipelineRun
    left: list[TaskRun]
    """The tasks a dead engine left running."""
    context: str
    """Id of the run's group in the lineage graph."""


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """Who records: the clock, the actor and the versions that go into every record."""

    clock: Clock
    actor: str
    versions: dict[str, str]

    def begin_run(self, session: Session, run_id: str, presence: Presence, lease_clock: Clock) -> Begun:
        """Take a run: it starts, or goes on; the tasks a dead engine left RUNNING become PENDING.

        Raises `Conflict` when an engine that lives has it.
        """
        run = hold_run(session, run_id)
        owner = find_worker(session, run.owner) if run.owner else None
        if run.state == "RUNNING" and owner is not None and is_alive(owner, lease_clock):
            raise Conflict(
                f"The run {run_id} is being executed by another process ({owner.pid} on {owner.host}).",
                hint="Wait for it, or help it from here with: mainspring worker",
            )
        forget_dead(session, lease_clock)
        presence.register(session)
        if run.state == "PENDING":
            self._start_run(session, run)
        update_run(session, run_id, owner=presence.id, token=run.token + 1)
        left = self._release_tasks(session, run_id, lease_clock)
        context = lineage.put_context(session, self.clock, type=CONTEXT, name=run_id)
        return Begun(run=get_run(session, run_id), left=left, context=context)

    def _release_tasks(self, session: Session, run_id: str, lease_clock: Clock) -> list[TaskRun]:
        left: list[TaskRun] = []
        delete_offers(session, run_id)
        for task in list_tasks(session, run_id):
            if task.state == "OFFERED":
                update_task(session, run_id, task.address, state="PENDING")
            elif task.state == "RUNNING" and not is_alive(find_worker(session, task.owner), lease_clock):
                left.append(self.lose_task(session, task))
        return left

    def lose_task(self, session: Session, task: TaskRun) -> TaskRun:
        """Record that whoever ran a task is dead: nobody knows how the attempt ended, the task is PENDING again."""
        if task.execution_id is not None:
            properties = {"error": INTERRUPTED}
            lineage.end_execution(session, self.clock, task.execution_id, "FAILED", properties=properties)
        self.change(session, task, state="PENDING", execution_id=None)
        return task

    def record_arguments(self, session: Session, run: PipelineRun) -> Values:
        """Record the artifacts a run is given; return them with their ids."""
        given = run.artifacts
        return Values(
            artifacts={name: self._put(session, run.pipeline, value) for name, value in given.artifacts.items()},
            lists={
                name: tuple(self._put(session, run.pipeline, value) for value in values)
                for name, values in given.lists.items()
            },
        )

    def _put(self, session: Session, owner: str, value: ArtifactValue) -> ArtifactValue:
        name = value.name if ":" in value.name else f"{owner}:{value.name}"
        properties = {"kind": value.kind, "metadata": value.metadata}
        id = lineage.put_artifact(
            session, self.clock, type=value.type, name=name, uri=value.uri, digest=value.digest,
            properties=properties,
        )  # fmt: skip
        return msgspec.structs.replace(value, id=id, name=name)

    def open_loops(
        self, session: Session, run_id: str, opened: Sequence[tuple[str, int, Sequence[Place]]]
    ) -> list[TaskRun]:
        """Record the tasks of iterations: of each the loop's address and position, and what the iteration holds."""
        for loop in {loop for loop, _, _ in opened}:
            update_task(session, run_id, loop, state=OPENED)
        rows = [new_task(run_id, position, place) for _, position, inside in opened for place in inside]
        insert_tasks(session, rows)
        return rows

    def start_task(
        self,
        session: Session,
        run: PipelineRun,
        ready: ReadyTask,
        task: TaskRun,
        *,
        context: str,
        owner: str,
        cache_key: str,
        cache: str,
    ) -> TaskRun:
        """Record that an attempt of a task starts, with what goes into it."""
        execution_id = self._start_execution(session, run, ready, task, context=context, cache_key=cache_key)
        return self.change(
            session,
            task,
            state="RUNNING",
            attempt=task.attempt + 1,
            owner=owner,
            execution_id=execution_id,
            cache_key=cache_key,
            cache=cache,
            inputs=ready.inputs,
            error="",
            due_ms=None,
            started_at=self.clock.now_ms(),
        )

    def finish_task(
        self,
        session: Session,
        run: PipelineRun,
        task: TaskRun,
        outputs: Values,
        *,
        took_ms: int | None = None,
        usage: TaskUsage | None = None,
    ) -> TaskRun:
        """Record that a task ended well, with what came out of it; returns the outputs with their artifact ids."""
        assert task.execution_id is not None
        recorded = {}
        for name, value in outputs.artifacts.items():
            recorded[name] = self._put(session, f"{run.pipeline}/{task.address}", value)
            lineage.add_edge(session, task.execution_id, recorded[name].id, "OUTPUT", name)
        outputs = Values(parameters=outputs.parameters, artifacts=recorded)
        used = _used(usage)
        properties = {"outputs": outputs.parameters, "took_ms": took_ms, **used}
        lineage.end_execution(session, self.clock, task.execution_id, "COMPLETE", properties=properties)
        now = self.clock.now_ms()
        done = self.change(session, task, state="COMPLETE", outputs=outputs, ended_at=now, took_ms=took_ms, **used)
        self._task_event(session, run, done)
        return done

    def reuse_result(
        self,
        session: Session,
        run: PipelineRun,
        ready: ReadyTask,
        task: TaskRun,
        found: TaskRun,
        *,
        context: str,
        cache: str,
    ) -> TaskRun:
        """Record that an earlier result stands in for a task."""
        key = found.cache_key or ""
        execution_id = self._start_execution(session, run, ready, task, context=context, cache_key=key)
        for name, value in found.outputs.artifacts.items():
            lineage.add_edge(session, execution_id, value.id, "OUTPUT", name)
        properties = {"outputs": found.outputs.parameters, "cached_from": found.execution_id}
        lineage.end_execution(session, self.clock, execution_id, "CACHED", properties=properties)
        now = self.clock.now_ms()
        done = self.change(
            session,
            task,
            state="CACHED",
            execution_id=execution_id,
            cached_from=found.execution_id,
            cache_key=key,
            cache=cache,
            inputs=ready.inputs,
            outputs=found.outputs,
            error="",
            started_at=now,
            ended_at=now,
        )
        self._task_event(session, run, done)
        return done

    def fail_task(
        self,
        session: Session,
        run: PipelineRun,
        task: TaskRun,
        error: str,
        *,
        retries: bool,
        counts: bool = True,
        due_ms: int | None = None,
        took_ms: int | None = None,
        usage: TaskUsage | None = None,
    ) -> TaskRun:
        """Record that an attempt failed; the task is PENDING again if it retries. A lost attempt does not count."""
        used = _used(usage)
        if task.execution_id is not None:
            properties = {"error": error, "took_ms": took_ms, **used}
            lineage.end_execution(session, self.clock, task.execution_id, "FAILED", properties=properties)
        failed = self.change(
            session,
            task,
            state="PENDING" if retries else "FAILED",
            failures=task.failures + counts,
            error=error,
            due_ms=due_ms,
            took_ms=took_ms,
            ended_at=None if retries else self.clock.now_ms(),
            **used,
        )
        if not retries:
            self._task_event(session, run, failed)
        return failed

    def cancel_task(self, session: Session, run: PipelineRun, task: TaskRun) -> TaskRun:
        """Record that a task was stopped, or will not start, because the run is canceled."""
        reason = "the run was canceled"
        if task.state == "RUNNING" and task.execution_id is not None:
            lineage.end_execution(session, self.clock, task.execution_id, "CANCELED", properties={"error": reason})
        done = self.change(session, task, state="CANCELED", error=reason, ended_at=self.clock.now_ms())
        self._task_event(session, run, done)
        return done

    def skip_task(self, session: Session, task: TaskRun, reason: str) -> TaskRun:
        """Record that a task will not run."""
        return self.change(session, task, state="SKIPPED", error=reason, ended_at=self.clock.now_ms())

    def finish_run(
        self, session: Session, run: PipelineRun, state: str, error: str, outputs: Values, *, took_ms: int
    ) -> PipelineRun:
        """Record how a run ended."""
        assert run.execution_id is not None
        for name, value in outputs.all_artifacts():
            lineage.add_edge(session, run.execution_id, value.id, "OUTPUT", name)
        properties = {"outputs": outputs.parameters, "took_ms": took_ms, **({"error": error} if error else {})}
        lineage.end_execution(session, self.clock, run.execution_id, state, properties=properties)
        now = self.clock.now_ms()
        changes: dict[str, Any] = {
            "state": state, "error": error, "outputs": outputs, "ended_at": now, "took_ms": took_ms, "desired": "",
        }  # fmt: skip
        update_run(session, run.id, **changes)
        delete_offers(session, run.id)
        self._event(session, run, "pipeline.run.finished", run.id, {"state": state, "error": error})
        return msgspec.structs.replace(run, **changes)

    def change(self, session: Session, task: TaskRun, **changes: Json) -> TaskRun:
        """Change a task's row; return it as it is now."""
        update_task(session, task.run_id, task.address, **changes)
        return msgspec.structs.replace(task, **changes)

    def _start_run(self, session: Session, run: PipelineRun) -> None:
        context = lineage.put_context(session, self.clock, type=CONTEXT, name=run.id)
        execution_id = lineage.start_execution(
            session,
            self.clock,
            type="pipeline_run",
            name=run.pipeline,
            actor=run.actor,
            properties={
                "run_id": run.id,
                "parameters": run.parameters,
                "code": run.code,
                "ir_digest": run.ir_digest,
                "versions": self.versions,
            },
            contexts=(context,),
        )
        for name, value in run.artifacts.all_artifacts():
            lineage.add_edge(session, execution_id, value.id, "INPUT", name)
        event = lineage.record_event(
            session,
            self.clock,
            "pipeline.run.started",
            source=f"pipelines/{run.pipeline}",
            subject=run.id,
            data={"pipeline": run.pipeline, "parameters": run.parameters},
            cause=run.cause,
        )
        now = self.clock.now_ms()
        update_run(session, run.id, state="RUNNING", execution_id=execution_id, started_event=event, started_at=now)

    def _start_execution(
        self,
        session: Session,
        run: PipelineRun,
        ready: ReadyTask,
        task: TaskRun,
        *,
        context: str,
        cache_key: str,
    ) -> str:
        body = ready.task.body
        requirements = body.requirements if isinstance(body, PythonComponent) else ()
        id = lineage.start_execution(
            session,
            self.clock,
            type="task",
            name=f"{run.pipeline}/{task.address}",
            actor=self.actor,
            properties={
                "run_id": run.id,
                "task": task.address,
                "attempt": task.attempt + 1,
                "parameters": ready.inputs.parameters,
                "function": getattr(body, "name", ""),
                "component_digest": task.component_digest,
                "cache_key": cache_key,
                "versions": {**self.versions, **_installed(requirements)},
            },
            contexts=(context,),
        )
        for name, value in ready.inputs.all_artifacts():
            lineage.add_edge(session, id, value.id, "INPUT", name)
        return id

    def _task_event(self, session: Session, run: PipelineRun, task: TaskRun) -> None:
        data = {
            "run_id": run.id,
            "task": task.address,
            "state": task.state,
            "attempt": task.attempt,
            "error": task.error,
            "execution_id": task.execution_id,
        }
        self._event(session, run, "task.finished", f"{run.id}/{task.address}"[:512], data)

    def _event(self, session: Session, run: PipelineRun, type: str, subject: str, data: dict[str, Any]) -> None:
        source = f"pipelines/{run.pipeline}"
        lineage.record_event(
            session, self.clock, type, source=source, subject=subject, data=data, cause=run.started_event
        )


@cache
def _installed(requirements: tuple[str, ...]) -> dict[str, str]:
    return installed_versions(requirements)


def new_task(run_id: str, position: int, place: Place) -> TaskRun:
    """Make the row of a task, or of a loop nobody has looked into yet."""
    task, body = place.task, place.task.body
    is_loop = task.loop is not None
    return TaskRun(
        run_id=run_id,
        address=place.address,
        position=position,
        name=task.name,
        state="PENDING",
        attempt=0,
        failures=0,
        execution_id=None,
        cached_from=None,
        cache_key=None,
        component_digest="" if is_loop else getattr(body, "digest", ""),
        error="",
        started_at=None,
        ended_at=None,
        upstream=place.upstream,
        inputs=Values(),
        outputs=Values(),
        kind="loop" if is_loop else type(body).__name__.removesuffix("Component").lower(),
    )


def check_attempt(session: Session, task: TaskRun) -> None:
    """Raise `LostLease` unless this attempt of a task is still the one that counts."""
    found = read_tasks(session, task.run_id, [task.address])
    if not found or (found[0].state, found[0].owner, found[0].attempt) != ("RUNNING", task.owner, task.attempt):
        raise LostLease(f"Task {task.address} of run {task.run_id} is not this worker's any more.")


def own(session: Session, run: PipelineRun) -> None:
    """Make sure that what follows in this transaction is recorded by the run's newest engine."""
    check_token(session, run.id, run.token)


def _used(usage: TaskUsage | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {"max_rss_bytes": usage.max_rss_bytes, "cpu_ms": round(usage.cpu_seconds * 1000)}
