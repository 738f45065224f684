"""Schedules as they are recorded: each with its timing, and every time it was due that was dealt with."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from mainspring.automation.schedules import Schedule, check_schedule, next_due
from mainspring.core import Clock, InvalidInput, NotFound, new_id
from mainspring.db.tables.schedules import schedule as table
from mainspring.db.tables.schedules import schedule_run

Source = Literal["project", "kfp"]
State = Literal["ENABLED", "PAUSED"]


class StoredSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of a pipeline."""

    id: str
    name: str
    source: Source
    """``project``: a pipeline of mainspring.yaml, started through its triggers; ``kfp``: a compiled file of its own."""
    pipeline: str
    timing: Schedule
    parameters: dict[str, Any] = {}
    ir_digest: str = ""
    """The compiled file; empty when the pipeline is one of the project."""
    details: dict[str, Any] = {}
    """What its maker wants to know again."""
    state: State = "ENABLED"
    last_due: int
    """The last time that was dealt with; at first when it was made."""
    created_at: int
    updated_at: int

    @property
    def next_due(self) -> int | None:
        """When it is due next; None while it is paused, and when it never is again."""
        return next_due(self.timing, self.last_due) if self.state == "ENABLED" else None


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """A time a schedule was due; ``run_id`` is None until its run is recorded, empty when there will be none."""

    schedule_id: str
    due_at: int
    event: str
    run_id: str | None


def put_schedule(
    connection: sa.Connection,
    clock: Clock,
    *,
    name: str,
    source: Source,
    pipeline: str,
    timing: Schedule,
    id: str = "",
    parameters: dict[str, Any] | None = None,
    ir_digest: str = "",
    details: dict[str, Any] | None = None,
    state: State = "ENABLED",
) -> StoredSchedule:
    """Record a new schedule; what lies before now is not due. Raises `InvalidInput` when its timing cannot be."""
    now = clock.now_ms()
    made = StoredSchedule(
        id=id or new_id(clock), name=name, source=source, pipeline=pipeline, timing=check_schedule(timing),
        parameters=parameters or {}, ir_digest=ir_digest, details=details or {}, state=state,
        last_due=now, created_at=now, updated_at=now,
    )  # fmt: skip
    connection.execute(sa.insert(table).values(**msgspec.to_builtins(made)))
    return made


def get_schedule(connection: sa.Connection, id: str) -> StoredSchedule:
    """Return one schedule by its id, or by its name if only one has it; raise `NotFound` or `InvalidInput`."""
    query = sa.select(table).where(sa.or_(table.c.id == id, table.c.name == id))
    every = connection.execute(query.order_by(table.c.created_at, table.c.id)).mappings().all()
    rows = [row for row in every if row["id"] == id] or list(every)
    if not rows:
        raise NotFound(f"There is no schedule {id!r}.", hint="See: mainspring schedules list")
    if len(rows) > 1:
        ids = ", ".join(str(row["id"]) for row in rows[:5])
        raise InvalidInput(f"{len(rows)} schedules are called {id!r}.", hint=f"Name one by its id: {ids}.")
    return _schedule(rows[0])


def find_schedule(connection: sa.Connection, id: str) -> StoredSchedule | None:
    """Return one schedule by its id alone; None when there is none."""
    row = connection.execute(sa.select(table).where(table.c.id == id)).mappings().first()
    return None if row is None else _schedule(row)


def list_schedules(
    connection: sa.Connection, *, source: Source | None = None, state: State | None = None
) -> list[StoredSchedule]:
    """Return the schedules, newest first."""
    query = sa.select(table).order_by(table.c.created_at.desc(), table.c.id.desc())
    if source is not None:
        query = query.where(table.c.source == source)
    if state is not None:
        query = query.where(table.c.state == state)
    return [_schedule(row) for row in connection.execute(query).mappings()]


def replan_schedule(connection: sa.Connection, clock: Clock, id: str, *, pipeline: str, timing: Schedule) -> None:
    """Give a schedule another pipeline or timing; what the new timing would have made due before now is not due."""
    now = clock.now_ms()
    values = {"pipeline": pipeline, "timing": msgspec.to_builtins(timing), "last_due": now, "updated_at": now}
    connection.execute(sa.update(table).where(table.c.id == id).values(values))


def set_state(connection: sa.Connection, clock: Clock, id: str, state: State) -> StoredSchedule:
    """Pause a schedule, or let it go on: what was due while it was paused is made up for only if it catches up."""
    found = get_schedule(connection, id)
    if found.state == state:
        return found
    now = clock.now_ms()
    forgets = state == "ENABLED" and not found.timing.catch_up
    changed = msgspec.structs.replace(found, state=state, updated_at=now, last_due=now if forgets else found.last_due)
    values = {"state": changed.state, "updated_at": changed.updated_at, "last_due": changed.last_due}
    connection.execute(sa.update(table).where(table.c.id == found.id).values(values))
    return changed


def delete_schedule(connection: sa.Connection, id: str) -> None:
    """Forget a schedule; its runs stay. Raises `NotFound`."""
    found = get_schedule(connection, id)
    connection.execute(sa.delete(schedule_run).where(schedule_run.c.schedule_id == found.id))
    connection.execute(sa.delete(table).where(table.c.id == found.id))


def move_on(connection: sa.Connection, id: str, last_due: int) -> None:
    """Note that everything up to a time is dealt with."""
    connection.execute(sa.update(table).where(table.c.id == id).values(last_due=last_due))


def put_firing(connection: sa.Connection, firing: Firing) -> None:
    """Record that a time is dealt with; the same time of a schedule cannot be recorded twice."""
    connection.execute(sa.insert(schedule_run).values(**msgspec.to_builtins(firing)))


def settle_firing(connection: sa.Connection, firing: Firing, run_id: str) -> None:
    """Note the run of a time that was due."""
    place = (schedule_run.c.schedule_id == firing.schedule_id, schedule_run.c.due_at == firing.due_at)
    connection.execute(sa.update(schedule_run).where(*place).values(run_id=run_id))


def list_firings(
    connection: sa.Connection, *, schedule_id: str | None = None, unsettled: bool = False, limit: int = 100
) -> list[Firing]:
    """Return times that were due, newest first; ``unsettled`` those whose run is not recorded yet, oldest first."""
    order = schedule_run.c.due_at.asc() if unsettled else schedule_run.c.due_at.desc()
    query = sa.select(schedule_run).order_by(order).limit(limit)
    if schedule_id is not None:
        query = query.where(schedule_run.c.schedule_id == schedule_id)
    if unsettled:
        query = query.where(schedule_run.c.run_id.is_(None))
    return [Firing(**row) for row in connection.execute(query).mappings()]


def count_firings(connection: sa.Connection, schedule_id: str, *, until: int | None = None) -> int:
    """Return how many times of a schedule were dealt with, in all or until one of them."""
    query = sa.select(sa.func.count()).select_from(schedule_run).where(schedule_run.c.schedule_id == schedule_id)
    if until is not None:
        query = query.where(schedule_run.c.due_at <= until)
    return int(connection.execute(query).scalar_one())


def schedule_of_run(connection: sa.Connection, run_id: str) -> StoredSchedule | None:
    """Return the schedule that started a run, or None."""
    query = (
        sa.select(table)
        .join(schedule_run, schedule_run.c.schedule_id == table.c.id)
        .where(schedule_run.c.run_id == run_id)
    )
    row = connection.execute(query).mappings().first()
    return _schedule(row) if row else None


def runs_of_schedule(connection: sa.Connection, schedule_id: str) -> list[str]:
    """Return the ids of the runs a schedule started."""
    query = sa.select(schedule_run.c.run_id).where(schedule_run.c.schedule_id == schedule_id)
    return [str(run_id) for run_id in connection.execute(query).scalars() if run_id]


def schedules_by_run(connection: sa.Connection) -> dict[str, StoredSchedule]:
    """Return the schedule of every run that one started, by the run's id."""
    schedules = {found.id: found for found in list_schedules(connection)}
    query = sa.select(schedule_run.c.run_id, schedule_run.c.schedule_id).where(schedule_run.c.run_id.is_not(None))
    rows = connection.execute(query).all()
    return {str(run_id): schedules[schedule_id] for run_id, schedule_id in rows if run_id}


def _schedule(row: sa.RowMapping) -> StoredSchedule:
    return msgspec.convert({str(name): value for name, value in row.items()}, StoredSchedule)
