"""The journal: every arc of the loop is an event (a CloudEvent) that names its cause."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.core import Clock, new_id
from mainspring.db import Row, Session, read_json, session_of

if TYPE_CHECKING:
    import sqlalchemy as sa

_EVENTS = "SELECT id,type,source,subject,cause,time,data,sequence FROM event"
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
    connection: sa.Connection | Session,
    *,
    types: tuple[str, ...] = (),
    subject: str | None = None,
    after: int = 0,
    limit: int = 200,
    newest_first: bool = False,
) -> list[Event]:
    """Return events whose type starts with one of ``types`` (all if none), after sequence number ``after``."""
    conditions, values = ["sequence>?"], list[object]([after])
    if types:
        conditions.append("(" + " OR ".join("substr(type,1,?)=?" for _ in types) + ")")
        values += [value for prefix in types for value in (len(prefix), prefix)]
    if subject is not None:
        conditions.append("subject=?")
        values.append(subject)
    order = "DESC" if newest_first else "ASC"
    statement = f"{_EVENTS} WHERE {' AND '.join(conditions)} ORDER BY sequence {order} LIMIT ?"
    return [_event(row) for row in session_of(connection).rows(statement, (*values, limit))]


def get_event(connection: sa.Connection | Session, id: str) -> Event | None:
    """Return one event, or None."""
    row = session_of(connection).row(f"{_EVENTS} WHERE id=?", (id,))
    return None if row is None else _event(row)


def trace_cause(connection: sa.Connection | Session, id: str) -> list[Event]:
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


def _event(row: Row) -> Event:
    id, type, source, subject, cause, time, data, sequence = row
    return Event(
        id=id, type=type, source=source, subject=subject, cause=cause, time=time, data=read_json(data),
        sequence=sequence,
    )  # fmt: skip
