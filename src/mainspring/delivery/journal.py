"""Rollouts as rows: started, advanced, ended, each with its event."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mainspring.core import Clock, Conflict, NotFound, new_id
from mainspring.db.tables.delivery import rollout as table
from mainspring.delivery.rollouts import ACTIVE_STATES, Rollout, RolloutStep
from mainspring.lineage import record_event


def start_rollout(
    connection: sa.Connection,
    clock: Clock,
    *,
    endpoint: str,
    model: str,
    candidate_version: str,
    champion_version: str,
    reason: str = "",
    cause: str | None = None,
) -> Rollout:
    """Begin to roll a version out, as PENDING until it takes traffic; raise `Conflict` if one is under way."""
    running = active_rollout(connection, endpoint)
    if running is not None:
        raise _under_way(endpoint, running.candidate_version)
    id = new_id(clock)
    event = record_event(
        connection,
        clock,
        "rollout.started",
        source="delivery",
        subject=endpoint,
        cause=cause,
        data={
            "rollout": id,
            "model": model,
            "candidate": candidate_version,
            "champion": champion_version,
            "reason": reason,
        },
    )
    started = Rollout(
        id=id,
        endpoint=endpoint,
        model=model,
        candidate_version=candidate_version,
        champion_version=champion_version,
        state="PENDING",
        started_at=clock.now_ms(),
        ended_at=None,
        reason=reason,
        statistics={},
        cause=cause,
        event=event,
    )
    try:
        connection.execute(sa.insert(table).values(msgspec.to_builtins(started)))
    except IntegrityError as error:  # another process was quicker
        raise _under_way(endpoint, "another version") from error
    return started


def begin_canary(connection: sa.Connection, rollout_id: str) -> None:
    """Note that the canary takes traffic now; raise `Conflict` unless the rollout was PENDING."""
    changed = connection.execute(
        sa.update(table).where(table.c.id == rollout_id, table.c.state == "PENDING").values(state="CANARY")
    )
    if changed.rowcount != 1:
        found = get_rollout(connection, rollout_id)
        raise Conflict(f"Rollout {rollout_id} is {found.state}, not PENDING.")


def save_step(
    connection: sa.Connection, clock: Clock, rollout_id: str, step: RolloutStep, *, cause: str | None = None
) -> str | None:
    """Keep a step's statistics; if it ends the rollout, record rollout.promoted or .rolled_back and return its id.

    ``cause`` is the event that brought the evidence; by default the rollout's own start. Raise `Conflict` if the
    rollout is over already.
    """
    found = get_rollout(connection, rollout_id)
    if found.state not in ACTIVE_STATES:
        raise Conflict(f"Rollout {rollout_id} is over: {found.state}.")
    values: dict[str, object] = {"statistics": msgspec.to_builtins(step.statistics), "reason": step.reason}
    event = None
    if step.action != "continue":
        promoted = step.action == "promote"
        values |= {"state": "PROMOTED" if promoted else "ROLLED_BACK", "ended_at": clock.now_ms()}
        event = record_event(
            connection,
            clock,
            "rollout.promoted" if promoted else "rollout.rolled_back",
            source="delivery",
            subject=found.endpoint,
            cause=cause or found.event,
            data={
                "rollout": rollout_id,
                "model": found.model,
                "candidate": found.candidate_version,
                "champion": found.champion_version,
                "reason": step.reason,
            },
        )
    connection.execute(sa.update(table).where(table.c.id == rollout_id).values(values))
    return event


def get_rollout(connection: sa.Connection, id: str) -> Rollout:
    """Return one rollout; raise `NotFound`."""
    row = connection.execute(sa.select(table).where(table.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no rollout {id}.")
    return Rollout(**row)


def active_rollout(connection: sa.Connection, endpoint: str) -> Rollout | None:
    """Return the endpoint's rollout that is under way, or None."""
    query = sa.select(table).where(table.c.endpoint == endpoint, table.c.state.in_(ACTIVE_STATES))
    row = connection.execute(query).mappings().first()
    return Rollout(**row) if row else None


def list_rollouts(connection: sa.Connection, *, endpoint: str | None = None, limit: int = 100) -> list[Rollout]:
    """Return rollouts, newest first."""
    query = sa.select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
    if endpoint is not None:
        query = query.where(table.c.endpoint == endpoint)
    return [Rollout(**row) for row in connection.execute(query).mappings()]


def _under_way(endpoint: str, version: str) -> Conflict:
    return Conflict(
        f"Endpoint {endpoint} is already rolling out {version}.", hint="Wait until it is promoted or rolled back."
    )
