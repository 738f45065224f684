"""The journal: every arc of the loop is an event (a CloudEvent) that names its cause."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock, new_id
from mainspring.db import Session, session_of
from mainspring.db.tables.lineage import event as event_table

_RECORD = "INSERT INTO event (id,type,source,subject,cause,time,data) VALUES (?,?,?,?,?,?,?)"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. Fields as in CloudEvents 1.0; ``cause`` is the id of the event that led to it."""

    id: str
    type: str
    source: str
    subject: str
    time: int
    data: dict[str, Any]
    cause: str | None = None
    sequence: int = 0


def record_event(
    connection: sa.Connection | Session,
    clock: Clock,
    type: str,
    *,
    source: str,
    subject: str,
    data: dict[str, Any] | None = None,
    cause: str | None = None,
) -> str:
    """Append an event to the journal and return its id; it commits with the caller's transaction."""
    id = new_id(clock)
    row = (id, type, source, subject, cause, clock.now_ms(), json.dumps(data or {}))
    session_of(connection).run(_RECORD, row)
    return id


def list_events(
    connection: sa.Connection,
    *,
    types: tuple[str, ...] = (),
    subject: str | None = None,
    after: int = 0,
    limit: int = 200,
    newest_first: bool = False,
) -> list[Event]:
    """Return events whose type starts with one of ``types`` (all if none), after sequence number ``after``."""
    query = sa.select(event_table).where(event_table.c.sequence > after).limit(limit)
    if types:
        query = query.where(sa.or_(*(event_table.c.type.startswith(prefix, autoescape=True) for prefix in types)))
    if subject is not None:
        query = query.where(event_table.c.subject == subject)
    order = event_table.c.sequence
    rows = connection.execute(query.order_by(order.desc() if newest_first else order))
    return [Event(**row) for row in rows.mappings()]


def get_event(connection: sa.Connection, id: str) -> Event | None:
    """Return one event, or None."""
    row = connection.execute(sa.select(event_table).where(event_table.c.id == id)).mappings().first()
    return Event(**row) if row else None


def trace_cause(connection: sa.Connection, id: str) -> list[Event]:
    """Return the event and the chain of causes behind it, newest first."""
    chain: list[Event] = []
    next_id: str | None = id
    while next_id is not None and len(chain) < 100:
        found = get_event(connection, next_id)
        if found is None:
            break
        chain.append(found)
        next_id = found.cause
    return chain
