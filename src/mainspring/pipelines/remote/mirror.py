"""The mirror of a run elsewhere: its rows, executions and artifacts here, as if it had run here.

While it runs the state of its row is ``REMOTE``, so that no engine of ours takes it for work to do. What the remote
engine says is written whole each time it says something new; a follower that was killed simply starts again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring import lineage
from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, InvalidInput, NotFound, Refused, Unavailable, new_id
from mainspring.db import Database
from mainspring.db.tables.pipelines import pipeline_run, pipeline_task
from mainspring.pipelines.compile import CompiledPipeline
from mainspring.pipelines.ir import normalise_numbers
from mainspring.pipelines.records import PipelineRun, get_run
from mainspring.pipelines.remote.interface import (
    ENDED,
    RemoteArtifact,
    RemoteEngine,
    RemoteRun,
    RemoteState,
    RemoteTask,
    Submission,
)

REMOTE = "REMOTE"
_ENDED_TASKS = (*ENDED, "CACHED", "SKIPPED")
_MOST_FAILURES = 6
_FOLLOW = "The run goes on there; follow it with: mainspring remote follow {}"
_EMPTY: dict[str, Any] = {"parameters": {}, "artifacts": {}}


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """Where the mirror is kept, and who keeps it."""

    database: Database
    blobs: LocalBlobs
    clock: Clock
    actor: str

    def submit(
        self,
        engine: RemoteEngine,
        compiled: CompiledPipeline,
        *,
        parameters: dict[str, Any],
        use_cache: bool = True,
        cause: str | None = None,
    ) -> str:
        """Start a run elsewhere and record it; returns our id of it."""
        _require_arguments(compiled, parameters)
        run_id = new_id(self.clock)
        submission = Submission(
            ir=compiled.ir, pipeline=compiled.name, run_id=run_id, parameters=parameters, use_cache=use_cache
        )
        digest = self.blobs.put(compiled.ir)
        submitted = engine.submit(submission)
        remote = {"engine": engine.name, "id": submitted.id, "url": submitted.url}
        with self.database.write() as connection:
            self._insert(connection, submission, digest, remote, submitted.warnings, cause)
        return run_id

    def follow(
        self,
        engine: RemoteEngine,
        run_id: str,
        *,
        every_seconds: float = 5.0,
        on_change: Callable[[RemoteRun], None] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> PipelineRun:
        """Mirror a run until it has ended; return it as it is recorded then.

        An engine that does not answer for a while is asked again; a run that is no longer there has failed.
        """
        id, last, failures = remote_id(self._get(run_id), engine.name), None, 0
        while True:
            try:
                seen, failures = engine.look(id), 0
            except NotFound as error:
                seen = RemoteRun(state="FAILED", error=f"It is not on {engine.name} any more. {error.message}")
            except Unavailable as error:
                failures += 1
                if failures == _MOST_FAILURES:
                    raise Unavailable(error.message, hint=_FOLLOW.format(run_id)) from error
                pause(every_seconds * failures)
                continue
            except Refused as error:
                raise Refused(error.message, hint=f"{error.hint} {_FOLLOW.format(run_id)}") from error
            if seen != last:
                self.reflect(run_id, seen)
                last = seen
                if on_change is not None:
                    on_change(seen)
            if seen.state in ENDED:
                return self._get(run_id)
            pause(every_seconds)

    def reflect(self, run_id: str, seen: RemoteRun) -> None:
        """Write down how a run stands; what was written before is brought up to it."""
        with self.database.write() as connection:
            run = get_run(connection, run_id)
            if run.state != REMOTE:
                return
            known = self._known_tasks(connection, run_id)
            for task in seen.tasks:
                self._reflect_task(connection, run, task, known)
            if seen.state in ENDED:
                self._end_tasks(connection, run, seen.state)
                self._finish(connection, run, seen)

    def _get(self, run_id: str) -> PipelineRun:
        with self.database.read() as connection:
            return get_run(connection, run_id)

    def _insert(
        self,
        connection: sa.Connection,
        submission: Submission,
        digest: str,
        remote: dict[str, str],
        warnings: tuple[str, ...],
        cause: str | None,
    ) -> None:
        now, id = self.clock.now_ms(), submission.run_id
        context = lineage.put_context(connection, self.clock, type="pipeline_run", name=id)
        properties = {"run_id": id, "parameters": submission.parameters, "ir_digest": digest, "remote": remote}
        execution = lineage.start_execution(
            connection, self.clock, type="pipeline_run", name=submission.pipeline, actor=self.actor,
            properties=properties, contexts=(context,),
        )  # fmt: skip
        event = lineage.record_event(
            connection, self.clock, "pipeline.run.started", source=f"pipelines/{submission.pipeline}", subject=id,
            data={"pipeline": submission.pipeline, "parameters": submission.parameters, "remote": remote}, cause=cause,
        )  # fmt: skip
        connection.execute(
            sa.insert(pipeline_run).values(
                id=id, pipeline=submission.pipeline, name=submission.pipeline, state=REMOTE, actor=self.actor,
                cause=cause, ir_digest=digest, use_cache=submission.use_cache, execution_id=execution,
                started_event=event, error="", created_at=now, started_at=now, ended_at=None,
                parameters=submission.parameters, code={"remote": remote}, outputs=_EMPTY, warnings=list(warnings),
            )
        )  # fmt: skip

    def _known_tasks(self, connection: sa.Connection, run_id: str) -> dict[str, dict[str, Any]]:
        query = sa.select(pipeline_task).where(pipeline_task.c.run_id == run_id)
        return {str(row["address"]): dict(row) for row in connection.execute(query).mappings()}

    def _reflect_task(
        self, connection: sa.Connection, run: PipelineRun, task: RemoteTask, known: dict[str, dict[str, Any]]
    ) -> None:
        row = known.get(task.address)
        if row is not None and row["state"] in _ENDED_TASKS:
            return
        values: dict[str, Any] = {
            "state": task.state,
            "error": task.error,
            "started_at": task.started_at,
            "ended_at": task.ended_at,
        }
        execution = None if row is None else row["execution_id"]
        if execution is None and task.state not in ("PENDING", "SKIPPED"):
            execution = self._start_execution(connection, run, task)
            values |= {"execution_id": execution, "attempt": 1}
        if execution is not None and task.state in (*ENDED, "CACHED"):
            self._end_execution(connection, run, execution, task)
        if row is not None:
            place = (pipeline_task.c.run_id == run.id, pipeline_task.c.address == task.address)
            connection.execute(sa.update(pipeline_task).where(*place).values(**values))
            return
        fixed = {"run_id": run.id, "address": task.address, "position": len(known), "name": task.name, "attempt": 0}
        rest = {"failures": 0, "component_digest": "", "upstream": [], "inputs": _EMPTY, "outputs": _EMPTY}
        connection.execute(sa.insert(pipeline_task).values(**{**fixed, **rest, **values}))
        known[task.address] = {**fixed, **values}

    def _end_tasks(self, connection: sa.Connection, run: PipelineRun, state: RemoteState) -> None:
        """End the tasks that the engine said nothing of any more before the run ended; none goes on after it."""
        state = "COMPLETE" if state == "COMPLETE" else "CANCELED"
        for address, row in self._known_tasks(connection, run.id).items():
            if row["state"] in _ENDED_TASKS:
                continue
            if row["execution_id"] is not None:
                lineage.end_execution(connection, self.clock, row["execution_id"], state)
            place = (pipeline_task.c.run_id == run.id, pipeline_task.c.address == address)
            values = {"state": state, "ended_at": self.clock.now_ms()}
            connection.execute(sa.update(pipeline_task).where(*place).values(**values))

    def _start_execution(self, connection: sa.Connection, run: PipelineRun, task: RemoteTask) -> str:
        context = lineage.put_context(connection, self.clock, type="pipeline_run", name=run.id)
        execution = lineage.start_execution(
            connection, self.clock, type="task", name=f"{run.pipeline}/{task.address}", actor=self.actor,
            properties={"run_id": run.id, "task": task.address, "remote_id": task.id}, contexts=(context,),
        )  # fmt: skip
        self._link(connection, run, execution, "INPUT", task.inputs)
        return execution

    def _end_execution(self, connection: sa.Connection, run: PipelineRun, execution: str, task: RemoteTask) -> None:
        self._link(connection, run, execution, "OUTPUT", task.outputs)
        properties = {"error": task.error} if task.error else {}
        lineage.end_execution(connection, self.clock, execution, task.state, properties=properties)
        data = {"run_id": run.id, "task": task.address, "state": task.state, "error": task.error}
        lineage.record_event(
            connection, self.clock, "task.finished", source=f"pipelines/{run.pipeline}",
            subject=f"{run.id}/{task.address}", data={**data, "execution_id": execution}, cause=run.started_event,
        )  # fmt: skip

    def _link(
        self,
        connection: sa.Connection,
        run: PipelineRun,
        execution: str,
        kind: lineage.EventKind,
        artifacts: dict[str, tuple[RemoteArtifact, ...]],
    ) -> None:
        for name, found in artifacts.items():
            for place, artifact in enumerate(found):
                path = name if len(found) == 1 else f"{name}[{place}]"
                lineage.add_edge(connection, execution, self._artifact_id(connection, run, artifact), kind, path)

    def _artifact_id(self, connection: sa.Connection, run: PipelineRun, artifact: RemoteArtifact) -> str:
        """Return our id of an artifact elsewhere, recording it when it is met first."""
        engine = run.code["remote"]["engine"]
        name = f"{engine}:{artifact.id}"
        known = lineage.find_artifacts(connection, name=name)
        if known:
            return known[0].id
        metadata = normalise_numbers(artifact.metadata)
        return lineage.put_artifact(
            connection, self.clock, type=artifact.type, name=name, uri=artifact.uri or name,
            properties={"kind": "reference", "metadata": metadata, "display_name": artifact.name},
        )  # fmt: skip

    def _finish(self, connection: sa.Connection, run: PipelineRun, seen: RemoteRun) -> None:
        error = seen.error or next(
            (f"Task {task.address} failed: {task.error}" for task in seen.tasks if task.error), ""
        )
        error = "" if seen.state == "COMPLETE" else error
        if run.execution_id is not None:
            properties = {"error": error} if error else {}
            lineage.end_execution(connection, self.clock, run.execution_id, seen.state, properties=properties)
        values = {"state": seen.state, "error": error, "ended_at": self.clock.now_ms()}
        connection.execute(sa.update(pipeline_run).where(pipeline_run.c.id == run.id).values(**values))
        lineage.record_event(
            connection, self.clock, "pipeline.run.finished", source=f"pipelines/{run.pipeline}", subject=run.id,
            data={"state": seen.state, "error": error}, cause=run.started_event,
        )  # fmt: skip


def _require_arguments(compiled: CompiledPipeline, parameters: dict[str, Any]) -> None:
    """Raise `InvalidInput` for a parameter the pipeline has not, or needs and is not given, before anything is sent."""
    declared = compiled.spec.root.input_definitions.parameters
    for name in parameters:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise InvalidInput(
                f"The pipeline {compiled.name!r} has no parameter {name!r}.", hint=f"Its parameters: {known}."
            )
    for name, found in declared.items():
        is_needed = found.default_value is msgspec.UNSET and not found.is_optional
        if is_needed and name not in parameters:
            raise InvalidInput(f"The pipeline {compiled.name!r} needs the parameter {name!r}.", hint=f"Pass {name}=….")


def remote_id(run: PipelineRun, engine: str = "") -> str:
    """Return the id a run has at the engine it runs on; raise `InvalidInput` when it is not one of that engine."""
    remote = run.code.get("remote")
    if not isinstance(remote, dict) or (engine and remote.get("engine") != engine):
        raise InvalidInput(
            f"The run {run.id} does not run on {engine or 'another engine'}.", hint="See: mainspring pipelines list"
        )
    return str(remote["id"])
