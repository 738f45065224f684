"""The application as plain ASGI: for any ASGI server, should our own connection class not fit a platform."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from mainspring.core import MainspringError
from mainspring.serving.app import App
from mainspring.serving.connection import too_large
from mainspring.serving.faults import TooSlow
from mainspring.serving.http import CLOSE, HttpLimits, Request
from mainspring.serving.wire import Headers, Reply, error_reply

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class AsgiApp:
    """Wraps an `App`; one instance per process."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: Headers = dict(scope["headers"])
        try:
            body = await read_body(receive, headers, self._app.options.limits)
        except ClientGone:
            return
        except MainspringError as error:
            reply = error_reply(error)
            await _send(send, Reply(reply.status, reply.body, reply.content_type, (CLOSE,)))
            return
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._app.handle(Request(scope["method"], scope["path"], headers, body), future.set_result)
        await _send(send, await future)


async def read_body(receive: Receive, headers: Headers, limits: HttpLimits) -> bytes:
    """Return the body as sent; refuse it from its Content-Length alone if that is over the limit."""
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > limits.max_body:
        raise too_large(limits.max_body)
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _read(receive, limits.max_body)
    except TimeoutError as error:
        raise TooSlow("The request did not arrive in time.") from error


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(send: Send, reply: Reply) -> None:
    headers = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
