"""The door of an endpoint process: it accepts connections, keeps count of them, ends the slow ones, and closes gently.

Connections are accepted one per turn of the event loop, so that workers that share a listening socket share the
clients too; TCP_NODELAY is set on each (asyncio forgets it for sockets that were passed on).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from time import monotonic

from mainspring.core import MainspringError
from mainspring.serving.connection import Connection
from mainspring.serving.faults import Overloaded
from mainspring.serving.http import HttpLimits, Request, Respond

_logger = logging.getLogger("mainspring.serving")
_SWEEP_SECONDS = 0.25
_BACKLOG_TURNS = 64


class Door:
    """Every connection of one listener, and what is common to them."""

    drain_idle_seconds = 1.0
    """While closing: how long a connection may rest before it is ended."""

    def __init__(self, handle: Callable[[Request, Respond], None], limits: HttpLimits) -> None:
        self.handle = handle
        self.limits = limits
        self.buffered = 0
        """Bytes of unfinished bodies."""
        self.is_draining = False
        self.connections: set[Connection] = set()
        self.now: Callable[[], float] = monotonic
        self._clients: Counter[str] = Counter()
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[object]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def open(self, listener: socket.socket) -> None:
        """Begin to accept; call it on the event loop."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self.now = loop.time
        self._listener = listener
        loop.add_reader(listener.fileno(), self._accept)
        self._sweeper = loop.create_task(self._sweep())

    def enter(self, connection: Connection) -> MainspringError | None:
        """Count a new connection; return why it may not stay, if it may not."""
        self.connections.add(connection)
        self._clients[connection.client] += 1
        if len(self.connections) > self.limits.max_connections:
            return Overloaded("There are too many connections.", hint="Try again in a second.")
        if self._clients[connection.client] > self.limits.max_per_client:
            return Overloaded("There are too many connections from your address.", hint="Use fewer, for longer.")
        return None

    def leave(self, connection: Connection) -> None:
        """Forget a connection that ended."""
        self.connections.discard(connection)
        self._clients[connection.client] -= 1
        if self._clients[connection.client] <= 0:
            del self._clients[connection.client]

    def stop_accepting(self) -> None:
        """Accept no more than what waits already: once nobody holds the listener any more, the rest is refused."""
        listener = self._listener
        if listener is None:
            return
        self._listener = None
        asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(_BACKLOG_TURNS):
            if not self._take_from(listener):
                break
        listener.close()

    async def drain(self, seconds: float) -> None:
        """Answer what comes on open connections, each answer its connection's last, until none is left."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.drain(self.drain_idle_seconds)
        end = self.now() + seconds
        while (self.connections or self._accepting) and self.now() < end:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _accept(self) -> None:
        if self._listener is not None:
            self._take_from(self._listener)

    def _take_from(self, listener: socket.socket) -> bool:
        """Accept one connection; say whether there was one."""
        try:
            client, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:  # out of descriptors: leave it in the queue and breathe
            _logger.error("accept.failed", extra={"fields": {"error": str(error)}})
            return False
        client.setblocking(False)
        if client.family in (socket.AF_INET, socket.AF_INET6):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(loop.connect_accepted_socket(lambda: Connection(self), client))
        self._accepting.add(task)
        task.add_done_callback(self._accepted)
        return True

    def _accepted(self, task: asyncio.Task[object]) -> None:
        self._accepting.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.warning("connection.failed", extra={"fields": {"error": str(task.exception())}})

    async def _sweep(self) -> None:
        """End the connections whose time is up."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self.now()
            for connection in list(self.connections):
                connection.tend(now)
