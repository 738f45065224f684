"""Stop without losing a request, on uvicorn.

uvicorn closes every idle keep-alive connection the moment it is told to stop, and loses the request that is already
on its way. Here a connection goes on answering, each answer with ``connection: close``, and is closed when it has been
idle for a second.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

IDLE_SECONDS = 1.0


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
    """uvicorn's server, told once to stop; it leaves the process to whoever runs it."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully at the first signal; at a second SIGINT, at once. The signal is not raised again."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        self._on_stop()
