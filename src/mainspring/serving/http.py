"""The little of ASGI an endpoint needs: read a body within limits, send a reply, check a token."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from mainspring.core import MainspringError
from mainspring.serving.faults import TooLarge, TooSlow
from mainspring.serving.wire import Headers, Reply, inflate

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_SECONDS = 30.0
"""A client has this long to send its body."""
CLOSE = (b"connection", b"close")


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes:
    """Return the inflated body; refuse it from its Content-Length alone if that is over the limit."""
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_rest(receive, [body], limit)
        except TimeoutError as error:
            raise TooSlow(f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from error
    elif message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > limit:
        raise _too_large(limit)
    return inflate(body, headers.get(b"content-encoding", b"").lower(), limit)


async def send_reply(send: Send, reply: Reply, extra: list[tuple[bytes, bytes]]) -> None:
    """Send a reply with its own and the extra headers."""
    headers = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
    headers += [*reply.headers, *extra]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def is_authorized(headers: Headers, token: str) -> bool:
    """Say whether the request carries the bearer token, if one is needed."""
    return not token or hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + token.encode())


async def _read_rest(receive: Receive, parts: list[bytes], limit: int) -> bytes:
    size = len(parts[0])
    while True:
        if size > limit:
            raise _too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large(limit: int) -> MainspringError:
    return TooLarge(f"The body is larger than {limit} bytes.", hint="Send fewer rows per request.")
