"""The fallback: the same application as plain ASGI on uvicorn, stopped without losing a request.

uvicorn closes every idle keep-alive connection the moment it is told to stop, and loses the request that is already
on its way. Here a connection goes on answering, each answer with ``connection: close``, and is closed when it has been
idle for a second.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mainspring.serving.app import App
from mainspring.serving.asgi import AsgiApp

IDLE_SECONDS = 1.0
_GRACE_SECONDS = 5


class DrainingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with a patient end."""

    is_draining = False

    def shutdown(self) -> None:
        """Begin to end: the next answer closes the connection, or a second without a request does."""
        self.is_draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(IDLE_SECONDS, self.timeout_keep_alive_handler)

    def on_headers_complete(self) -> None:
        """Take a request; while draining it is the connection's last."""
        super().on_headers_complete()
        if self.is_draining and self.cycle is not None:
            self.cycle.keep_alive = False


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which leaves the signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the process has its own handlers."""
        yield

    def handle_exit(self, sig: int, frame: object) -> None:
        """Stop gracefully."""
        self.should_exit = sig in (signal.SIGTERM, signal.SIGINT)


async def run_uvicorn(app: App, listener: socket.socket, stopping: asyncio.Event) -> None:
    """Serve until ``stopping`` is set, then drain."""
    config = uvicorn.Config(
        AsgiApp(app),
        http=DrainingProtocol,
        loop="none",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(app.options.limits.idle_seconds),
        timeout_graceful_shutdown=_GRACE_SECONDS,
        interface="asgi3",
    )
    server = DrainingServer(config)

    async def watch() -> None:
        await stopping.wait()
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    await server.serve(sockets=[listener])
    watcher.cancel()
