"""One HTTP/1.1 connection: bytes to requests and replies to bytes, within limits, in order, without trusting a byte.

httptools (llhttp) reads the syntax and refuses what is ambiguous: both lengths, bare line feeds, folded headers. What
it leaves open is held here: sizes, times, how much may wait, and that answers leave in the order of the requests.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast
from urllib.parse import unquote

import httptools

from mainspring.core import MainspringError
from mainspring.serving.faults import BadHttp, HeadTooLarge, Overloaded, TooLarge, TooSlow
from mainspring.serving.http import HttpLimits, Request, Respond, closes_connection, encode_reply
from mainspring.serving.wire import Reply, error_reply

_LINGER_SECONDS = 2.0


class Doorway(Protocol):
    """What a connection needs to know of the listener it came through."""

    limits: HttpLimits
    handle: Callable[[Request, Respond], None]
    now: Callable[[], float]
    is_draining: bool
    drain_idle_seconds: float
    buffered: int
    """Bytes of unfinished bodies of all connections."""

    def enter(self, connection: Connection) -> MainspringError | None:
        """Count a new connection; return why it may not stay, if it may not."""

    def leave(self, connection: Connection) -> None:
        """Forget a connection that ended."""


class Exchange:
    """A request that waits for its reply."""

    __slots__ = ("closes", "connection", "data", "is_head")

    def __init__(self, connection: Connection, *, closes: bool, is_head: bool) -> None:
        self.connection = connection
        self.data: bytes | None = None
        self.closes = closes
        self.is_head = is_head

    def respond(self, reply: Reply) -> None:
        """Take the reply; it is sent as soon as those before it are."""
        connection = self.connection
        self.closes = self.closes or connection.door.is_draining or closes_connection(reply)
        self.data = encode_reply(reply, closes=self.closes, without_body=self.is_head)
        connection.send_answers()

    def is_gone(self) -> bool:
        """Say whether nobody will read the reply."""
        return self.connection.is_lost


class Connection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, door: Doorway) -> None:
        self.door = door
        self.is_lost = False
        self.deadline = math.inf
        """When, on the event loop's clock, patience ends with what is going on now."""
        self._write_deadline = math.inf
        self.client = ""
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._waiting: deque[Exchange] = deque()
        self._is_deaf = False
        """Whether whatever still comes is thrown away: the last answer is out or on its way."""
        self._was_refused = False
        self._parts: list[bytes] = []
        self._in_message = False
        self._has_head = False
        self._reading_paused = False
        self._forget()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) else ""
        self._patience(self.door.limits.head_seconds)
        refusal = self.door.enter(self)
        if refusal is not None:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; what is being predicted for this client is finished and logged, and delivered to nobody."""
        self.is_lost = True
        self._drop_body()
        self._waiting.clear()
        self.door.leave(self)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._is_deaf:
            return
        if self._in_message:
            self._raw += len(data)
            if not self._has_head and self._raw > self.door.limits.max_head:
                self._refuse(HeadTooLarge("The request line and headers are too large."))
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :] if upgrade.args else b"")
        except httptools.HttpParserCallbackError:
            if not self._is_deaf:
                raise
        except httptools.HttpParserError:
            if not self._is_deaf:
                self._refuse(BadHttp("This is not a well-formed HTTP request."))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read a request that offers another protocol (h2c, websocket) as if it did not: it is answered as it is."""
        method = self._parser.get_method()
        if self._is_deaf:
            return
        if method == b"CONNECT":
            self._refuse(BadHttp("This is not a proxy."))
            return
        lines = [b"%b %b HTTP/1.1" % (method, self._url)]
        lines += [b"%b: %b" % pair for pair in self._headers.items() if pair[0] not in (b"connection", b"upgrade")]
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def eof_received(self) -> bool:
        """Stay open for the answers that are due, if the client only closed its half."""
        return bool(self._waiting) and not self._in_message

    def pause_writing(self) -> None:
        """Read no more from a client that does not read its answers."""
        self._pause_reading()
        self._write_deadline = self.door.now() + self.door.limits.write_seconds

    def resume_writing(self) -> None:
        """Read again."""
        self._write_deadline = math.inf
        self._resume_reading()

    def send_answers(self) -> None:
        """Send the answers that are ready, in order."""
        waiting = self._waiting
        while waiting and waiting[0].data is not None:
            exchange = waiting.popleft()
            if self.is_lost:
                continue
            self._transport.write(cast("bytes", exchange.data))
            if exchange.closes:
                self._finish()
                return
        if not waiting and not self._in_message:
            self._rest()
        if self._reading_paused:
            self._resume_reading()

    def drain(self, idle_seconds: float) -> None:
        """Let this be the end: the next answer closes the connection, or some time without a request does."""
        if not self._waiting and not self._in_message:
            self._patience(idle_seconds)

    def is_busy(self) -> bool:
        """Say whether an answer is due."""
        return bool(self._waiting)

    def tend(self, now: float) -> None:
        """End a connection whose time is up: silently if it rests, with a 408 in the middle of a request."""
        if now > self._write_deadline:
            self._transport.abort()
        if now <= self.deadline:
            return
        self.deadline = math.inf
        if self._in_message and not self._is_deaf:
            self._refuse(TooSlow("The request did not arrive in time."))
        else:
            self._transport.abort() if self._is_deaf or self._waiting else self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._forget()
        self._in_message = True
        self._patience(self.door.limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url
        if len(self._url) > self.door.limits.max_head:
            self._refuse(HeadTooLarge("The request line is too long."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; of repeated ones the last counts."""
        limits = self.door.limits
        self._head += len(name) + len(value) + 4
        if self._head > limits.max_head or len(self._headers) >= limits.max_headers:
            self._refuse(HeadTooLarge("The headers are too many or too large."))
            return
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Decide from the head alone whether the body is wanted."""
        if self._is_deaf or self._parser.should_upgrade():
            return
        self._has_head = True
        limits, headers = self.door.limits, self._headers
        length = headers.get(b"content-length", b"0").strip()
        if not length.isdigit() or int(length[:20]) > limits.max_body:
            self._refuse(too_large(limits.max_body))
            return
        version = self._parser.get_http_version()
        if version == "1.1" and b"host" not in headers:
            self._refuse(BadHttp("The request has no Host header."))
            return
        self._closes = version == "1.0" or not self._parser.should_keep_alive()
        if headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
            self._refuse(BadHttp("The only transfer encoding that is read is chunked."))
            return
        if b"expect" in headers and headers[b"expect"].strip().lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._patience(limits.body_seconds)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._is_deaf:
            return
        self._size += len(body)
        self._parts.append(body)
        door = self.door
        door.buffered += len(body)
        if self._size > door.limits.max_body or self._raw > 4 * door.limits.max_body + door.limits.max_head:
            self._refuse(too_large(door.limits.max_body))
        elif door.buffered > door.limits.max_buffered:
            self._refuse(Overloaded("Too many requests are being received.", hint="Try again in a second."))

    def on_message_complete(self) -> None:
        """Hand the request over."""
        if self._is_deaf or self._parser.should_upgrade():
            return
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._drop_body()
        self._in_message = self._has_head = False
        self.deadline = math.inf
        method = self._parser.get_method().decode("latin-1")
        exchange = Exchange(self, closes=self._closes, is_head=method == "HEAD")
        self._waiting.append(exchange)
        if self._closes:
            self._is_deaf = True  # whatever follows the last request is nobody's
        if len(self._waiting) >= self.door.limits.max_pipelined:
            self._pause_reading()
        try:
            path = self._path()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            exchange.respond(error_reply(BadHttp("The request target is not a path.")))
            return
        self.door.handle(Request(method, path, self._headers, body, exchange.is_gone), exchange.respond)

    def _path(self) -> str:
        url = self._url
        if b"?" in url or b"#" in url or not url.startswith(b"/"):
            url = httptools.parse_url(url).path or b"/"
        path = url.decode("ascii")
        return unquote(path, errors="strict") if "%" in path else path

    def _refuse(self, error: MainspringError) -> None:
        """Answer what can be answered no further, after what is due before it, and hear no more."""
        self._is_deaf = self._was_refused = True
        self._in_message = False
        self._drop_body()
        exchange = Exchange(self, closes=True, is_head=False)
        self._waiting.append(exchange)
        exchange.respond(error_reply(error))

    def _finish(self) -> None:
        """Close after the last answer; a client in the middle of sending gets a moment to read it first."""
        self._waiting.clear()
        self._is_deaf = True
        if not self._was_refused:
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._patience(_LINGER_SECONDS)

    def _rest(self) -> None:
        """Wait for the next request."""
        door = self.door
        self._patience(door.drain_idle_seconds if door.is_draining else door.limits.idle_seconds)

    def _patience(self, seconds: float) -> None:
        self.deadline = self.door.now() + seconds

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self.is_lost:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._write_deadline < math.inf or len(self._waiting) >= self.door.limits.max_pipelined:
            return
        if self._reading_paused and not self.is_lost and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _drop_body(self) -> None:
        self.door.buffered -= sum(map(len, self._parts))
        self._parts = []

    def _forget(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts = []
        self._head = 0
        self._size = 0
        self._raw = 0
        self._closes = False


def too_large(limit: int) -> MainspringError:
    """Make the error for a body over the limit."""
    return TooLarge(f"The body is larger than {limit} bytes.", hint="Send fewer rows per request.")
