"""The journal over HTTP: a page of events as JSON, and the stream of new ones as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mainspring.core import InvalidInput
from mainspring.lineage import Event, Store, list_events

POLL_SECONDS = 0.5
HEARTBEAT_POLLS = 30
MAX_LIMIT = 1000


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order they happened; ask again with ``after=next`` for those that follow."""

    events: list[Event]
    next: int


def get_events(store: Store, request: Request) -> Response:
    """Answer ``/api/v1/events?after=&limit=&type=``."""
    after, limit = _whole(request, "after", 0), _whole(request, "limit", 200)
    if not 0 < limit <= MAX_LIMIT:
        raise InvalidInput(f"limit is {limit}.", hint=f"Use 1 to {MAX_LIMIT}.")
    events = read_events(store, after, limit, tuple(request.query_params.getlist("type")))
    page = EventPage(events=events, next=events[-1].sequence if events else after)
    return Response(msgspec.json.encode(page), media_type="application/json")


def stream_events(store: Store, request: Request) -> Response:
    """Answer ``/api/v1/events/stream``: new events from ``after`` (or Last-Event-ID, or now) on."""
    given = request.headers.get("last-event-id") or request.query_params.get("after", "")
    after = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(follow(store, after), media_type="text/event-stream", headers=headers)


async def follow(store: Store, after: int | None) -> AsyncIterator[bytes]:
    """Yield server-sent events for as long as the client stays."""
    position = await anyio.to_thread.run_sync(last_sequence, store) if after is None else after
    quiet = HEARTBEAT_POLLS
    while True:
        events = await anyio.to_thread.run_sync(read_events, store, position, 200, ())
        for event in events:
            position, quiet = event.sequence, 0
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (position, event.type.encode(), msgspec.json.encode(event))
        quiet += 1
        if quiet > HEARTBEAT_POLLS:
            quiet = 0
            yield b": still here\n\n"
        await asyncio.sleep(POLL_SECONDS)


def read_events(store: Store, after: int, limit: int, types: tuple[str, ...]) -> list[Event]:
    """Return events after a sequence number."""
    with store.database.read() as connection:
        return list_events(connection, after=after, limit=limit, types=types)


def last_sequence(store: Store) -> int:
    """Return the sequence number of the newest event; 0 if there is none."""
    with store.database.read() as connection:
        newest = list_events(connection, limit=1, newest_first=True)
    return newest[0].sequence if newest else 0


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput(f"{name} is {text[:50]!r}, which is not a number.")
    return int(text)
