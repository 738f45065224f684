"""What a run leaves behind: its rows, its executions and artifacts in the lineage graph, its events.

One function per transition; each is called inside the caller's transaction, so a transition is recorded whole or
not at all.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring import lineage
from mainspring.core import Clock
from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.records import PipelineRun, TaskRun, get_run, list_tasks, update_run, update_task
from mainspring.pipelines.requirements import installed_versions
from mainspring.pipelines.schedule import ReadyTask
from mainspring.pipelines.values import Values

CONTEXT = "pipeline_run"
INTERRUPTED = "The engine stopped while the task ran."


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """Who records: the clock, the actor and the versions that go into every record."""

    clock: Clock
    actor: str
    versions: dict[str, str]

    def begin_run(self, connection: sa.Connection, run_id: str) -> PipelineRun:
        """Record that a run starts or goes on; tasks a dead engine left RUNNING become PENDING."""
        run = get_run(connection, run_id)
        if run.state == "PENDING":
            self._start_run(connection, run)
        for task in list_tasks(connection, run_id):
            if task.state == "RUNNING":
                if task.execution_id is not None:
                    lineage.end_execution(
                        connection, self.clock, task.execution_id, "FAILED", properties={"error": INTERRUPTED}
                    )
                update_task(connection, run_id, task.address, state="PENDING", execution_id=None)
        return get_run(connection, run_id)

    def start_task(
        self, connection: sa.Connection, run: PipelineRun, ready: ReadyTask, task: TaskRun, cache_key: str
    ) -> TaskRun:
        """Record that an attempt of a task starts, with what goes into it."""
        execution_id = self._start_execution(connection, run, ready, task, cache_key)
        return self._change(
            connection,
            task,
            state="RUNNING",
            attempt=task.attempt + 1,
            execution_id=execution_id,
            cache_key=cache_key,
            inputs=ready.inputs,
            error="",
            started_at=self.clock.now_ms(),
        )

    def finish_task(
        self, connection: sa.Connection, run: PipelineRun, task: TaskRun, outputs: Values, *, took_ms: int | None = None
    ) -> TaskRun:
        """Record that a task ended well, with what came out of it; returns the outputs with their artifact ids."""
        assert task.execution_id is not None
        recorded = {}
        for name, value in outputs.artifacts.items():
            id = lineage.put_artifact(
                connection,
                self.clock,
                type=value.type,
                name=value.name,
                uri=value.uri,
                digest=value.digest,
                properties={"kind": value.kind, "metadata": value.metadata},
            )
            lineage.add_edge(connection, task.execution_id, id, "OUTPUT", name)
            recorded[name] = msgspec.structs.replace(value, id=id)
        outputs = Values(parameters=outputs.parameters, artifacts=recorded)
        properties = {"outputs": outputs.parameters, "took_ms": took_ms}
        lineage.end_execution(connection, self.clock, task.execution_id, "COMPLETE", properties=properties)
        now = self.clock.now_ms()
        done = self._change(connection, task, state="COMPLETE", outputs=outputs, ended_at=now, took_ms=took_ms)
        self._task_event(connection, run, done)
        return done

    def reuse_result(
        self, connection: sa.Connection, run: PipelineRun, ready: ReadyTask, task: TaskRun, found: TaskRun
    ) -> TaskRun:
        """Record that an earlier result stands in for a task."""
        key = found.cache_key or ""
        execution_id = self._start_execution(connection, run, ready, task, key)
        for name, value in found.outputs.artifacts.items():
            lineage.add_edge(connection, execution_id, value.id, "OUTPUT", name)
        properties = {"outputs": found.outputs.parameters, "cached_from": found.execution_id}
        lineage.end_execution(connection, self.clock, execution_id, "CACHED", properties=properties)
        now = self.clock.now_ms()
        done = self._change(
            connection,
            task,
            state="CACHED",
            execution_id=execution_id,
            cached_from=found.execution_id,
            cache_key=key,
            inputs=ready.inputs,
            outputs=found.outputs,
            started_at=now,
            ended_at=now,
        )
        self._task_event(connection, run, done)
        return done

    def fail_task(
        self,
        connection: sa.Connection,
        run: PipelineRun,
        task: TaskRun,
        error: str,
        *,
        retries: bool,
        counts: bool = True,
        took_ms: int | None = None,
    ) -> TaskRun:
        """Record that an attempt failed; the task is PENDING again if it retries. A lost attempt does not count."""
        if task.execution_id is not None:
            lineage.end_execution(
                connection, self.clock, task.execution_id, "FAILED", properties={"error": error, "took_ms": took_ms}
            )
        failed = self._change(
            connection,
            task,
            state="PENDING" if retries else "FAILED",
            failures=task.failures + counts,
            error=error,
            took_ms=took_ms,
            ended_at=None if retries else self.clock.now_ms(),
        )
        if not retries:
            self._task_event(connection, run, failed)
        return failed

    def skip_task(self, connection: sa.Connection, task: TaskRun, reason: str) -> TaskRun:
        """Record that a task will not run."""
        return self._change(connection, task, state="SKIPPED", error=reason, ended_at=self.clock.now_ms())

    def finish_run(
        self, connection: sa.Connection, run: PipelineRun, state: str, error: str, outputs: Values, *, took_ms: int
    ) -> PipelineRun:
        """Record how a run ended."""
        assert run.execution_id is not None
        for name, value in outputs.artifacts.items():
            lineage.add_edge(connection, run.execution_id, value.id, "OUTPUT", name)
        properties = {"outputs": outputs.parameters, "took_ms": took_ms, **({"error": error} if error else {})}
        lineage.end_execution(connection, self.clock, run.execution_id, state, properties=properties)
        now = self.clock.now_ms()
        changes = {"state": state, "error": error, "outputs": outputs, "ended_at": now, "took_ms": took_ms}
        update_run(connection, run.id, **changes)
        self._event(connection, run, "pipeline.run.finished", run.id, {"state": state, "error": error})
        return msgspec.structs.replace(run, **changes)

    def _start_run(self, connection: sa.Connection, run: PipelineRun) -> None:
        context = lineage.put_context(connection, self.clock, type=CONTEXT, name=run.id)
        execution_id = lineage.start_execution(
            connection,
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
        event = lineage.record_event(
            connection,
            self.clock,
            "pipeline.run.started",
            source=f"pipelines/{run.pipeline}",
            subject=run.id,
            data={"pipeline": run.pipeline, "parameters": run.parameters},
            cause=run.cause,
        )
        now = self.clock.now_ms()
        update_run(connection, run.id, state="RUNNING", execution_id=execution_id, started_event=event, started_at=now)

    def _start_execution(
        self, connection: sa.Connection, run: PipelineRun, ready: ReadyTask, task: TaskRun, cache_key: str
    ) -> str:
        component = ready.task.body
        assert isinstance(component, PythonComponent)
        id = lineage.start_execution(
            connection,
            self.clock,
            type="task",
            name=f"{run.pipeline}/{task.address}",
            actor=self.actor,
            properties={
                "run_id": run.id,
                "task": task.address,
                "attempt": task.attempt + 1,
                "parameters": ready.inputs.parameters,
                "function": component.function,
                "component_digest": task.component_digest,
                "cache_key": cache_key,
                "versions": {**self.versions, **installed_versions(component.requirements)},
            },
            contexts=(lineage.put_context(connection, self.clock, type=CONTEXT, name=run.id),),
        )
        for name, value in ready.inputs.artifacts.items():
            lineage.add_edge(connection, id, value.id, "INPUT", name)
        return id

    def _change(self, connection: sa.Connection, task: TaskRun, **changes: Any) -> TaskRun:  # noqa: ANN401
        update_task(connection, task.run_id, task.address, **changes)
        return msgspec.structs.replace(task, **changes)

    def _task_event(self, connection: sa.Connection, run: PipelineRun, task: TaskRun) -> None:
        data = {
            "run_id": run.id,
            "task": task.address,
            "state": task.state,
            "attempt": task.attempt,
            "error": task.error,
            "execution_id": task.execution_id,
        }
        self._event(connection, run, "task.finished", f"{run.id}/{task.address}", data)

    def _event(
        self, connection: sa.Connection, run: PipelineRun, type: str, subject: str, data: dict[str, Any]
    ) -> None:
        source = f"pipelines/{run.pipeline}"
        lineage.record_event(
            connection, self.clock, type, source=source, subject=subject, data=data, cause=run.started_event
        )
