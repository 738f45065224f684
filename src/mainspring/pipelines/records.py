"""The durable record of runs and tasks: every statement on their tables."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import NotFound
from mainspring.db.tables.pipelines import pipeline_offer, pipeline_run, pipeline_task
from mainspring.pipelines.values import Values

_ONE_RUN = sa.select(pipeline_run).where(pipeline_run.c.id == sa.bindparam("id"))
_BY_KEY = (
    sa.select(pipeline_task)
    .where(pipeline_task.c.cache_key == sa.bindparam("key"), pipeline_task.c.state == "COMPLETE")
    .order_by(pipeline_task.c.run_id.desc(), pipeline_task.c.address)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
OPENED = "OPENED"
"""State of the row of a loop whose iterations have rows of their own."""


class PipelineRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a pipeline. ``state`` is PENDING, RUNNING, COMPLETE, FAILED or CANCELED."""

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
    artifacts: Values = Values()
    """The artifacts it was given as arguments."""
    desired: str = ""
    """What somebody wants of it: RUNNING (any worker may take it), CANCELED, or nothing in particular."""
    owner: str = ""
    """Id of the engine that executes it, or did last."""
    token: int = 0
    """Goes up with every engine that takes the run: what an earlier one still tries to record is refused."""


class TaskRun(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a run. ``state`` is PENDING, OFFERED, RUNNING, COMPLETE, CACHED, FAILED, SKIPPED or CANCELED.

    A loop has a row until it is looked into; then its iterations' tasks have theirs.
    """

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
    kind: str = ""
    """``python``, ``container``, ``importer`` or ``loop``."""
    owner: str = ""
    """Id of the engine or worker that ran the last attempt."""
    cache: str = ""
    """What was decided about using an earlier result, and why."""
    due_ms: int | None = None
    """When the next attempt may start, in real time."""
    max_rss_bytes: int | None = None
    cpu_ms: int | None = None


def insert_run(connection: sa.Connection, run: PipelineRun, tasks: Iterable[TaskRun]) -> None:
    """Record a new run and its tasks."""
    connection.execute(sa.insert(pipeline_run).values(**msgspec.to_builtins(run)))
    insert_tasks(connection, tasks)


def insert_tasks(connection: sa.Connection, tasks: Iterable[TaskRun]) -> None:
    """Record more tasks of a run."""
    rows = [msgspec.to_builtins(task) for task in tasks]
    if rows:
        connection.execute(sa.insert(pipeline_task), rows)


def get_run(connection: sa.Connection, id: str) -> PipelineRun:
    """Return one run; raise `NotFound`."""
    row = connection.execute(_ONE_RUN, {"id": id}).mappings().first()
    if row is None:
        raise NotFound(f"There is no pipeline run {id}.", hint="See: mainspring pipelines list")
    return _run(row)


def hold_run(connection: sa.Connection, id: str) -> PipelineRun:
    """Return one run as `get_run`, and keep everybody else from changing it until the transaction ends."""
    row = connection.execute(_ONE_RUN.with_for_update(), {"id": id}).mappings().first()
    return get_run(connection, id) if row is None else _run(row)


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


def list_tasks(connection: sa.Connection, run_id: str, *, loops: bool = False) -> list[TaskRun]:
    """Return the tasks of a run in the order of its plan; with ``loops``, also the loops that were looked into."""
    query = sa.select(pipeline_task).where(pipeline_task.c.run_id == run_id).order_by(pipeline_task.c.position)
    if not loops:
        query = query.where(pipeline_task.c.state != OPENED)
    found = [_task(row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda task: (task.position, _natural(task.address)))


def get_task(connection: sa.Connection, run_id: str, address: str) -> TaskRun:
    """Return one task by its address, or by its name when only one has it; raise `NotFound`."""
    query = sa.select(pipeline_task).where(pipeline_task.c.run_id == run_id, pipeline_task.c.state != OPENED)
    exact = connection.execute(query.where(pipeline_task.c.address == address)).mappings().first()
    if exact is not None:
        return _task(exact)
    named = connection.execute(query.where(pipeline_task.c.name == address).limit(2)).mappings().all()
    if len(named) == 1:
        return _task(named[0])
    get_run(connection, run_id)
    problem = f"no task {address!r}" if not named else f"more than one task {address!r}"
    raise NotFound(f"Run {run_id} has {problem}.", hint=f"See its tasks with: mainspring graph {run_id}")


def read_tasks(connection: sa.Connection, run_id: str, addresses: Iterable[str]) -> list[TaskRun]:
    """Return the named tasks of a run."""
    wanted = list(addresses)
    found: list[TaskRun] = []
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        query = sa.select(pipeline_task).where(pipeline_task.c.run_id == run_id, pipeline_task.c.address.in_(chunk))
        found += [_task(row) for row in connection.execute(query).mappings()]
    return found


def last_result(connection: sa.Connection, pipeline: str, address: str, before: str) -> TaskRun | None:
    """Return the newest finished use of a task of a pipeline in a run older than ``before``, or None."""
    query = (
        sa.select(pipeline_task)
        .join(pipeline_run, pipeline_run.c.id == pipeline_task.c.run_id)
        .where(
            pipeline_run.c.pipeline == pipeline,
            pipeline_task.c.address == address,
            pipeline_task.c.run_id < before,
            pipeline_task.c.state.in_(("COMPLETE", "CACHED")),
        )
        .order_by(pipeline_task.c.run_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return _task(row) if row else None


def find_task(connection: sa.Connection, execution_id: str) -> TaskRun | None:
    """Return the task a lineage execution belongs to, or None."""
    query = sa.select(pipeline_task).where(pipeline_task.c.execution_id == execution_id)
    row = connection.execute(query).mappings().first()
    return _task(row) if row else None


def find_results(connection: sa.Connection, cache_key: str, limit: int = 3) -> list[TaskRun]:
    """Return the newest finished tasks with this cache key."""
    rows = connection.execute(_BY_KEY, {"key": cache_key, "limit": limit}).mappings()
    return [_task(row) for row in rows]


def update_run(connection: sa.Connection, id: str, **changes: object) -> None:
    """Change columns of a run."""
    parameters = {f"new_{name}": value for name, value in _builtins(changes).items()}
    connection.execute(_update_of(pipeline_run, tuple(changes)), {"key_id": id, **parameters})


def update_task(connection: sa.Connection, run_id: str, address: str, **changes: object) -> None:
    """Change columns of a task."""
    parameters = {f"new_{name}": value for name, value in _builtins(changes).items()}
    keys = {"key_run_id": run_id, "key_address": address}
    connection.execute(_update_of(pipeline_task, tuple(changes)), {**keys, **parameters})


def delete_offers(connection: sa.Connection, run_id: str) -> None:
    """Withdraw whatever a run offers to other workers."""
    connection.execute(sa.delete(pipeline_offer).where(pipeline_offer.c.run_id == run_id))


@cache
def _update_of(table: sa.Table, columns: tuple[str, ...]) -> sa.Update:
    """Return the statement that changes these columns of the row with a key: making it costs more than running it."""
    statement = sa.update(table)
    for column in table.primary_key.columns:
        statement = statement.where(column == sa.bindparam(f"key_{column.name}"))
    return statement.values({name: sa.bindparam(f"new_{name}") for name in columns})


def _natural(address: str) -> list[tuple[int, str]]:
    """Return a key that sorts iteration 2 before iteration 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in address.split("/")]


def _builtins(changes: dict[str, object]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in changes.items()}


def _run(row: sa.RowMapping) -> PipelineRun:
    return msgspec.convert(_plain(row), PipelineRun)


def _task(row: sa.RowMapping) -> TaskRun:
    return msgspec.convert(_plain(row), TaskRun)


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    """Give the columns plain string names: SQLAlchemy's are a subclass that msgspec does not take."""
    return {str(name): value for name, value in row.items()}
