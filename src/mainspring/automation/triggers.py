"""The queue of triggers: why a pipeline should run, one at a time per pipeline."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mainspring.core import Clock, Conflict, NotFound, new_id
from mainspring.db.tables.automation import trigger as table
from mainspring.lineage import record_event

TriggerKind = Literal["on_demand", "schedule", "new_data", "performance", "drift"]
TriggerState = Literal["PENDING", "RUNNING", "DONE", "FAILED"]
ACTIVE = ("PENDING", "RUNNING")


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A reason to run a pipeline; ``event`` is the id of its trigger.fired, the cause of what follows."""

    id: str
    kind: str
    policy: str
    pipeline: str
    reason: str
    evidence: dict[str, Any]
    state: str
    run_id: str | None
    cause: str | None
    event: str
    created_at: int
    started_at: int | None
    ended_at: int | None


def enqueue(
    connection: sa.Connection,
    clock: Clock,
    *,
    kind: TriggerKind,
    pipeline: str,
    reason: str,
    policy: str = "",
    evidence: dict[str, Any] | None = None,
    cause: str | None = None,
) -> Trigger | None:
    """Queue a trigger and record trigger.fired.

    If one of the pipeline is pending or running, record trigger.skipped and return None instead.
    """
    waiting = active_trigger(connection, pipeline)
    if waiting is not None:
        skip(
            connection,
            clock,
            kind=kind,
            pipeline=pipeline,
            policy=policy,
            reason=f"{reason} Skipped: trigger {waiting.id} of {pipeline} is {waiting.state} already.",
            evidence=evidence,
            cause=cause,
        )
        return None
    data = {"kind": kind, "policy": policy, "pipeline": pipeline, "reason": reason, "evidence": evidence or {}}
    queued = Trigger(
        id=new_id(clock),
        state="PENDING",
        run_id=None,
        cause=cause,
        event=record_event(
            connection, clock, "trigger.fired", source="automation", subject=pipeline, data=data, cause=cause
        ),
        created_at=clock.now_ms(),
        started_at=None,
        ended_at=None,
        kind=kind,
        policy=policy,
        pipeline=pipeline,
        reason=reason,
        evidence=evidence or {},
    )
    try:
        connection.execute(sa.insert(table).values(msgspec.to_builtins(queued)))
    except IntegrityError as error:  # another process was quicker
        raise Conflict(f"A trigger of {pipeline} was queued at the same moment.", hint="Try again.") from error
    return queued


def skip(
    connection: sa.Connection,
    clock: Clock,
    *,
    kind: str,
    pipeline: str,
    reason: str,
    policy: str = "",
    evidence: dict[str, Any] | None = None,
    cause: str | None = None,
) -> str:
    """Record why a pipeline was not triggered (trigger.skipped) and return the event's id."""
    data = {"kind": kind, "policy": policy, "pipeline": pipeline, "reason": reason, "evidence": evidence or {}}
    return record_event(
        connection, clock, "trigger.skipped", source="automation", subject=pipeline, data=data, cause=cause
    )


def claim_next(connection: sa.Connection, clock: Clock) -> Trigger | None:
    """Take the oldest pending trigger: it is RUNNING now. None if nothing waits."""
    query = (
        sa.select(table.c.id)
        .where(table.c.state == "PENDING")
        .order_by(table.c.created_at, table.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    id = connection.execute(query).scalar()
    if id is None:
        return None
    connection.execute(sa.update(table).where(table.c.id == id).values(state="RUNNING", started_at=clock.now_ms()))
    return get_trigger(connection, id)


def attach_run(connection: sa.Connection, trigger_id: str, run_id: str) -> None:
    """Note which pipeline run a running trigger started."""
    _update_running(connection, trigger_id, {"run_id": run_id})


def finish(
    connection: sa.Connection,
    clock: Clock,
    trigger_id: str,
    state: Literal["DONE", "FAILED"],
    *,
    run_id: str | None = None,
) -> None:
    """End a running trigger; raise `Conflict` if it is not RUNNING."""
    values: dict[str, object] = {"state": state, "ended_at": clock.now_ms()}
    if run_id is not None:
        values["run_id"] = run_id
    _update_running(connection, trigger_id, values)


def get_trigger(connection: sa.Connection, id: str) -> Trigger:
    """Return one trigger; raise `NotFound`."""
    row = connection.execute(sa.select(table).where(table.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no trigger {id}.")
    return Trigger(**row)


def active_trigger(connection: sa.Connection, pipeline: str) -> Trigger | None:
    """Return the pipeline's trigger that is pending or running, or None."""
    query = sa.select(table).where(table.c.pipeline == pipeline, table.c.state.in_(ACTIVE))
    row = connection.execute(query).mappings().first()
    return Trigger(**row) if row else None


def list_triggers(
    connection: sa.Connection, *, pipeline: str | None = None, states: Collection[str] = (), limit: int = 100
) -> list[Trigger]:
    """Return triggers, newest first."""
    query = sa.select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(table.c.pipeline == pipeline)
    if states:
        query = query.where(table.c.state.in_(tuple(states)))
    return [Trigger(**row) for row in connection.execute(query).mappings()]


def _update_running(connection: sa.Connection, id: str, values: dict[str, object]) -> None:
    changed = connection.execute(sa.update(table).where(table.c.id == id, table.c.state == "RUNNING").values(values))
    if changed.rowcount != 1:
        raise Conflict(f"Trigger {id} is {get_trigger(connection, id).state}, not RUNNING.")
