"""The timeline: what happened, newest first, and what caused it."""

from __future__ import annotations

import re

import msgspec
import sqlalchemy as sa

from mainspring.console import words
from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import link_of_event
from mainspring.core import NotFound
from mainspring.lineage import Event, Store, list_events, trace_cause

LIMIT = 200
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
TOLD_ELSEWHERE = ("reason", "run_id", "pipeline_run_id", "execution_id", "task", "rollout", "policy", "name", "source")
"""Keys of an event's data that its summary leaves out."""
KINDS = ("dataset", "pipeline", "task", "model", "gate", "rollout", "deployment", "monitor", "alert", "trigger")
"""First words of event types: what the filter offers."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An event, where its subject lives, and its data in a few words."""

    event: Event
    href: str
    summary: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the journal; ``cause`` is the event whose chain of causes is shown, if one was asked for."""

    head: Head
    rows: list[Row]
    kinds: list[str]
    type: str
    cause: str
    older: int | None
    """Sequence number to pass as ``before`` for the next page."""
    newest: int
    """Sequence number of the newest event shown; the live stream goes on after it."""


def show_events(store: Store, *, type: str = "", cause: str = "", before: int = 0) -> Timeline:
    """Show the newest events of a type (a prefix), or the chain of causes behind one event."""
    with store.database.read() as connection:
        if cause:
            events = trace_cause(connection, cause)
            if not events:
                raise NotFound(f"There is no event {cause}.", hint="The timeline at /events lists them.")
        else:
            events = _newest(connection, (type,) if type else (), before)
    page = events if cause else events[:LIMIT]
    return Timeline(
        head=head_of(
            store.clock,
            f"Why: {events[0].type}" if cause else "Events",
            "events",
            command="mainspring events" + (f" --type {type}" if type else ""),
            python="with store.database.read() as connection: list_events(connection, newest_first=True)",
            live=not cause and not before,
        ),
        rows=[row_of(event) for event in page],
        kinds=list(KINDS),
        type=type,
        cause=cause,
        older=page[-1].sequence if len(events) > len(page) else None,
        newest=page[0].sequence if page else 0,
    )


def _newest(connection: sa.Connection, types: tuple[str, ...], before: int) -> list[Event]:
    """Return the newest events (one more than fit on a page), all of them older than ``before`` unless that is 0."""
    if not before:
        return list_events(connection, types=types, newest_first=True, limit=LIMIT + 1)
    span = 4 * LIMIT
    while True:
        after = max(0, before - 1 - span)
        found = [
            event for event in list_events(connection, types=types, after=after, limit=span) if event.sequence < before
        ]
        if len(found) > LIMIT or after == 0:
            return found[::-1][: LIMIT + 1]
        span *= 4


def row_of(event: Event) -> Row:
    """Turn an event into a row of a table."""
    return Row(event=event, href=link_of_event(event), summary=summarise(event))


def summarise(event: Event) -> str:
    """Say what an event's data say: its reason if it has one, else its plain values."""
    data = event.data
    reason = data.get("reason")
    plain = [
        f"{key} {_plain(value)}"
        for key, value in data.items()
        if key not in TOLD_ELSEWHERE and isinstance(value, str | int | float) and value != ""
    ]
    return " · ".join(([str(reason)] if reason else []) + plain)[:240]


def _plain(value: str | float) -> str:
    if isinstance(value, str):
        return f"{value[:19]}…" if value.startswith("sha256:") else value[:10] if _ISO.fullmatch(value) else value
    return words.number(value)
