"""The request boundary: bodies within limits, work in threads, and every failure as an answer."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from mainspring.api.errors import TooLarge, describe_error
from mainspring.core import Conflict, InvalidInput, MainspringError, Unavailable

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTE = "mainspring.route"
"""Key in the scope under which a handler leaves the template of its route, for the metrics."""

PRINCIPAL = "mainspring.principal"
"""Key in the scope under which the guard leaves who asks."""

log = logging.getLogger("mainspring.api")


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the body; raise `TooLarge` as soon as it is larger than ``limit`` bytes."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body") and len(body) <= limit:
        return body
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"The request body is larger than {limit} bytes.", hint="Send less at once.")
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def send_json(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a JSON answer."""
    length = (b"content-length", str(len(body)).encode())
    start = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def send_text(send: Send, text: str) -> None:
    """Send a short plain text."""
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def explain_failure(error: Exception) -> tuple[int, bytes]:
    """Return the status and the body for a failure; what nobody can act on is logged and gets an id.

    Errors of a database are told by their names, which are the same for every driver and for SQLAlchemy (PEP 249).
    """
    if isinstance(error, MainspringError):
        return describe_error(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"DataError", "OverflowError", "UnicodeEncodeError"}:
        return describe_error(InvalidInput("A value in the request cannot be stored.", hint="Is it out of range?"))
    if "IntegrityError" in names:
        return describe_error(Conflict("Somebody else changed the same thing at the same time.", hint="Try again."))
    if "OperationalError" in names:
        log.error("database.unavailable error=%s", type(getattr(error, "orig", error)).__name__)
        return describe_error(Unavailable("The database does not answer.", hint="Try again in a moment."))
    id = os.urandom(6).hex()
    log.error("request.failed id=%s", id, exc_info=error)
    return describe_error(MainspringError("The server failed on this request.", hint=f"Its log has id {id}."))
