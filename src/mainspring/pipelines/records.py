"""The durable record of runs and tasks: every statement on their tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.core import NotFound
from mainspring.db import Row, Session, marks, read_json, session_of
from mainspring.pipelines.values import Values

if TYPE_CHECKING:
    import sqlalchemy as sa

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


RUN_COLUMNS = PipelineRun.__struct_fields__
TASK_COLUMNS = TaskRun.__struct_fields__
DOCUMENTS = frozenset({"parameters", "code", "outputs", "warnings", "artifacts", "upstream", "inputs"})
"""The columns of both tables that hold JSON."""
_RUNS = f"SELECT {','.join(RUN_COLUMNS)} FROM pipeline_run"  # noqa: S608 - our own column names
_ONE_RUN = f"{_RUNS} WHERE id=?"
_TASKS = f"SELECT {','.join(TASK_COLUMNS)} FROM pipeline_task"  # noqa: S608 - our own column names
_BY_KEY = f"{_TASKS} WHERE cache_key=? AND state='COMPLETE' ORDER BY run_id DESC, address LIMIT ?"
_PUT_RUN = f"INSERT INTO pipeline_run ({','.join(RUN_COLUMNS)}) VALUES ({marks(RUN_COLUMNS)})"  # noqa: S608 - our own column names
_PUT_TASK = f"INSERT INTO pipeline_task ({','.join(TASK_COLUMNS)}) VALUES ({marks(TASK_COLUMNS)})"  # noqa: S608 - our own column names


def insert_run(connection: sa.Connection | Session, run: PipelineRun, tasks: Iterable[TaskRun]) -> None:
    """Record a new run and its tasks."""
    session_of(connection).run(_PUT_RUN, _written(RUN_COLUMNS, msgspec.structs.asdict(run)))
    insert_tasks(connection, tasks)


def insert_tasks(connection: sa.Connection | Session, tasks: Iterable[TaskRun]) -> None:
    """Record more tasks of a run."""
    rows = [_written(TASK_COLUMNS, msgspec.structs.asdict(task)) for task in tasks]
    if rows:
        session_of(connection).run_many(_PUT_TASK, rows)


def get_run(connection: sa.Connection | Session, id: str) -> PipelineRun:
    """Return one run; raise `NotFound`."""
    return _found_run(session_of(connection).row(_ONE_RUN, (id,)), id)


def hold_run(connection: sa.Connection | Session, id: str) -> PipelineRun:
    """Return one run as `get_run`, and keep everybody else from changing it until the transaction ends."""
    session = session_of(connection)
    return _found_run(session.row(_ONE_RUN if session.is_sqlite else f"{_ONE_RUN} FOR UPDATE", (id,)), id)


def _found_run(row: Row | None, id: str) -> PipelineRun:
    if row is None:
        raise NotFound(f"There is no pipeline run {id}.", hint="See: mainspring pipelines list")
    return _run(row)


def list_runs(
    connection: sa.Connection | Session, limit: int = 50, *, pipeline: str | None = None
) -> list[PipelineRun]:
    """Return the newest runs first, of one pipeline if named."""
    wanted, values = ("WHERE pipeline=?", (pipeline,)) if pipeline is not None else ("", ())
    statement = f"{_RUNS} {wanted} ORDER BY id DESC LIMIT ?"
    return [_run(row) for row in session_of(connection).rows(statement, (*values, limit))]


def run_states(connection: sa.Connection | Session, ids: Sequence[str]) -> dict[str, str]:
    """Return how the named runs stand, of those that exist."""
    session, found = session_of(connection), dict[str, str]()
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        found |= dict(session.rows(f"SELECT id, state FROM pipeline_run WHERE id IN ({marks(chunk)})", chunk))  # noqa: S608
    return found


def list_tasks(connection: sa.Connection | Session, run_id: str, *, loops: bool = False) -> list[TaskRun]:
    """Return the tasks of a run in the order of its plan; with ``loops``, also the loops that were looked into."""
    found = [_task(row) for row in session_of(connection).rows(f"{_TASKS} WHERE run_id=?", (run_id,))]
    kept = found if loops else [task for task in found if task.state != OPENED]
    return sorted(kept, key=lambda task: (task.position, _natural(task.address)))


def get_task(connection: sa.Connection | Session, run_id: str, address: str) -> TaskRun:
    """Return one task by its address, or by its name when only one has it; raise `NotFound`."""
    session, statement = session_of(connection), f"{_TASKS} WHERE run_id=? AND state<>?"
    exact = session.row(f"{statement} AND address=?", (run_id, OPENED, address))
    if exact is not None:
        return _task(exact)
    named = session.rows(f"{statement} AND name=? LIMIT 2", (run_id, OPENED, address))
    if len(named) == 1:
        return _task(named[0])
    get_run(session, run_id)
    problem = f"no task {address!r}" if not named else f"more than one task {address!r}"
    raise NotFound(f"Run {run_id} has {problem}.", hint=f"See its tasks with: mainspring graph {run_id}")


def read_tasks(connection: sa.Connection | Session, run_id: str, addresses: Iterable[str]) -> list[TaskRun]:
    """Return the named tasks of a run."""
    session, wanted = session_of(connection), list(addresses)
    found: list[TaskRun] = []
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        statement = f"{_TASKS} WHERE run_id=? AND address IN ({marks(chunk)})"
        found += [_task(row) for row in session.rows(statement, (run_id, *chunk))]
    return found


def last_result(connection: sa.Connection | Session, pipeline: str, address: str, before: str) -> TaskRun | None:
    """Return the newest finished use of a task of a pipeline in a run older than ``before``, or None."""
    of_pipeline = "run_id IN (SELECT id FROM pipeline_run WHERE pipeline=?)"
    statement = (
        f"{_TASKS} WHERE {of_pipeline} AND address=? AND run_id<?"
        " AND state IN ('COMPLETE','CACHED') ORDER BY run_id DESC LIMIT 1"
    )
    row = session_of(connection).row(statement, (pipeline, address, before))
    return _task(row) if row else None


def find_task(connection: sa.Connection | Session, execution_id: str) -> TaskRun | None:
    """Return the task a lineage execution belongs to, or None."""
    row = session_of(connection).row(f"{_TASKS} WHERE execution_id=?", (execution_id,))
    return _task(row) if row else None


def find_results(connection: sa.Connection | Session, cache_key: str, limit: int = 3) -> list[TaskRun]:
    """Return the newest finished tasks with this cache key."""
    return [_task(row) for row in session_of(connection).rows(_BY_KEY, (cache_key, limit))]


def update_run(connection: sa.Connection | Session, id: str, **changes: object) -> None:
    """Change columns of a run."""
    columns = tuple(changes)
    session_of(connection).run(_update_of("pipeline_run", columns, ("id",)), (*_written(columns, changes), id))


def update_task(connection: sa.Connection | Session, run_id: str, address: str, **changes: object) -> None:
    """Change columns of a task."""
    columns = tuple(changes)
    statement = _update_of("pipeline_task", columns, ("run_id", "address"))
    session_of(connection).run(statement, (*_written(columns, changes), run_id, address))


def delete_offers(connection: sa.Connection | Session, run_id: str) -> None:
    """Withdraw whatever a run offers to other workers."""
    session_of(connection).run("DELETE FROM pipeline_offer WHERE run_id=?", (run_id,))


@cache
def _update_of(table: str, columns: tuple[str, ...], keys: tuple[str, ...]) -> str:
    """Return the statement that changes these columns of the row with a key."""
    changes = ",".join(f"{name}=?" for name in columns)
    return f"UPDATE {table} SET {changes} WHERE {' AND '.join(f'{key}=?' for key in keys)}"  # noqa: S608 - our own column names


def _natural(address: str) -> list[tuple[int, str]]:
    """Return a key that sorts iteration 2 before iteration 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in address.split("/")]


def _written(columns: Sequence[str], values: dict[str, Any]) -> list[object]:
    """Return the values of columns as a driver takes them: documents as text."""
    return [json.dumps(msgspec.to_builtins(values[name])) if name in DOCUMENTS else values[name] for name in columns]


def _run(row: Row) -> PipelineRun:
    found = _read(RUN_COLUMNS, row)
    return msgspec.convert({**found, "use_cache": bool(found["use_cache"])}, PipelineRun)


def _task(row: Row) -> TaskRun:
    return msgspec.convert(_read(TASK_COLUMNS, row), TaskRun)


def _read(columns: Sequence[str], row: Row) -> dict[str, Any]:
    """Name the values of a row, and parse the documents that a driver returns as text."""
    return {name: read_json(value) if name in DOCUMENTS else value for name, value in zip(columns, row, strict=True)}
