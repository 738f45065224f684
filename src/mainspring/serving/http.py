"""What the HTTP side is made of: a request, the limits it is held to, a reply on the wire, a token check."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

from mainspring.serving.wire import Headers, Reply

Respond: TypeAlias = Callable[[Reply], None]
"""Sends the reply to a request; called once, now or later."""

CLOSE = (b"connection", b"close")
_LINES = {int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


def _never() -> bool:
    return False


@dataclass(slots=True)
class Request:
    """One complete HTTP request."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    is_gone: Callable[[], bool] = _never
    """Says whether the client has closed its connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a client may take: bytes, seconds, connections."""

    max_body: int = 16 << 20
    """Bytes of a request body, as sent and inflated."""
    max_head: int = 32 << 10
    """Bytes of a request line and its headers."""
    max_headers: int = 100
    max_pipelined: int = 32
    """Requests of one connection that wait for their answers; more are not read."""
    max_connections: int = 4_096
    max_per_client: int = 1_024
    """Connections from one address."""
    max_buffered: int = 512 << 20
    """Bytes of unfinished bodies of all connections together."""
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its headers; also from connecting to the first byte."""
    body_seconds: float = 30.0
    """From the headers to the end of the body."""
    write_seconds: float = 30.0
    """How long a client may leave an answer unread."""
    idle_seconds: float = 75.0
    """How long a connection may rest between requests."""


def encode_reply(reply: Reply, *, closes: bool, without_body: bool = False) -> bytes:
    """Write a reply as it goes over the wire."""
    parts = [
        _LINES[reply.status],
        b"content-type: %b\r\ncontent-length: %d\r\n" % (reply.content_type, len(reply.body)),
    ]
    for name, value in reply.headers:
        if name != b"connection":
            parts.append(b"%b: %b\r\n" % (name, value))
    parts.append(b"connection: close\r\n\r\n" if closes else b"\r\n")
    if not without_body:
        parts.append(reply.body)
    return b"".join(parts)


def closes_connection(reply: Reply) -> bool:
    """Say whether a reply asks for the end of its connection."""
    return CLOSE in reply.headers


def is_authorized(headers: Headers, token: str) -> bool:
    """Say whether the request carries the bearer token, if one is needed."""
    return not token or hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + token.encode())
