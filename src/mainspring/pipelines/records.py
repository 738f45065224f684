"""The durable record of runs and tasks: every statement on their two tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import NotFound
from mainspring.db.tables.pipelines import pipeline_run, pipeline_task
from mainspring.pipelines.values import Values


class PipelineRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a pipeline. ``state`` is PENDING, RUNNING, COMPLETE or FAILED."""

    id: str
    pipeline: str
    name: str
    state: str
    actor: str
    cause: str | None
    """Id of the event that led to the run."""
    ir_digest: str
    use_cache: bool
    execution_id: str | None
    started_event: str | None
    error: str
    created_at: int
    started_at: int | None
    ended_at: int | None
    took_ms: int | None = None
    """How long the execution that ended it ran, on the machine's own clock (which a simulated one is not)."""
    parameters: dict[str, Any]
    code: dict[str, Any]
    outputs: Values
    warnings: tuple[str, ...]


class TaskRun(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a run. ``state`` is PENDING, RUNNING, COMPLETE, CACHED, FAILED or SKIPPED."""

    run_id: str
    address: str
    position: int
    name: str
    state: str
    attempt: int
    failures: int
    execution_id: str | None
    cached_from: str | None
    """Execution id of the task whose result was used."""
    cache_key: str | None
    component_digest: str
    error: str
    started_at: int | None
    ended_at: int | None
    took_ms: int | None = None
    """How long the last attempt ran, on the machine's own clock."""
    upstream: tuple[str, ...]
    """Addresses of the tasks, or of the nested dags, this one waits for."""
    inputs: Values
    outputs: Values


def insert_run(connection: sa.Connection, run: PipelineRun, tasks: Iterable[TaskRun]) -> None:
    """Record a new run and its tasks."""
    connection.execute(sa.insert(pipeline_run).values(**msgspec.to_builtins(run)))
    connection.execute(sa.insert(pipeline_task), [msgspec.to_builtins(task) for task in tasks])


def get_run(connection: sa.Connection, id: str) -> PipelineRun:
    """Return one run; raise `NotFound`."""
    row = connection.execute(sa.select(pipeline_run).where(pipeline_run.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no pipeline run {id}.", hint="See: mainspring runs")
    return _run(row)


def list_runs(connection: sa.Connection, limit: int = 50, *, pipeline: str | None = None) -> list[PipelineRun]:
    """Return the newest runs first, of one pipeline if named."""
    query = sa.select(pipeline_run).order_by(pipeline_run.c.id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(pipeline_run.c.pipeline == pipeline)
    return [_run(row) for row in connection.execute(query).mappings()]


def unfinished_runs(connection: sa.Connection) -> list[PipelineRun]:
    """Return the runs that are PENDING or RUNNING, oldest first."""
    query = sa.select(pipeline_run).where(pipeline_run.c.state.in_(("PENDING", "RUNNING"))).order_by(pipeline_run.c.id)
    return [_run(row) for row in connection.execute(query).mappings()]


def list_tasks(connection: sa.Connection, run_id: str) -> list[TaskRun]:
    """Return the tasks of a run in the order of its plan."""
    query = (
        sa.select(pipeline_task)
        .where(pipeline_task.c.run_id == run_id)
        .order_by(pipeline_task.c.position, pipeline_task.c.address)
    )
    return [_task(row) for row in connection.execute(query).mappings()]


def find_task(connection: sa.Connection, execution_id: str) -> TaskRun | None:
    """Return the task a lineage execution belongs to, or None."""
    query = sa.select(pipeline_task).where(pipeline_task.c.execution_id == execution_id)
    row = connection.execute(query).mappings().first()
    return _task(row) if row else None


def find_results(connection: sa.Connection, cache_key: str, limit: int = 3) -> list[TaskRun]:
    """Return the newest finished tasks with this cache key."""
    query = (
        sa.select(pipeline_task)
        .where(pipeline_task.c.cache_key == cache_key, pipeline_task.c.state == "COMPLETE")
        .order_by(pipeline_task.c.run_id.desc(), pipeline_task.c.address)
        .limit(limit)
    )
    return [_task(row) for row in connection.execute(query).mappings()]


def update_run(connection: sa.Connection, id: str, **changes: object) -> None:
    """Change columns of a run."""
    connection.execute(sa.update(pipeline_run).where(pipeline_run.c.id == id).values(**_builtins(changes)))


def update_task(connection: sa.Connection, run_id: str, address: str, **changes: object) -> None:
    """Change columns of a task."""
    connection.execute(
        sa.update(pipeline_task)
        .where(pipeline_task.c.run_id == run_id, pipeline_task.c.address == address)
        .values(**_builtins(changes))
    )


def _builtins(changes: dict[str, object]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in changes.items()}


def _run(row: sa.RowMapping) -> PipelineRun:
    return msgspec.convert(_plain(row), PipelineRun)


def _task(row: sa.RowMapping) -> TaskRun:
    return msgspec.convert(_plain(row), TaskRun)


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    """Give the columns plain string names: SQLAlchemy's are a subclass that msgspec does not take."""
    return {str(name): value for name, value in row.items()}
