"""The server process: bind first, serve, say where in ``server.json``, stop without losing a request."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import msgspec
import uvicorn
import uvloop

from mainspring.api.app import ExtraRoutes, create_app
from mainspring.api.guard import check_binding
from mainspring.core import Unavailable

if TYPE_CHECKING:
    from mainspring.lineage import Store

STATE_FILE = "server.json"
GRACE_SECONDS = 5
KEEP_ALIVE_SECONDS = 75


def run_server(
    store: Store, *, host: str | None = None, port: int | None = None, extra_routes: ExtraRoutes = ()
) -> None:
    """Serve until SIGTERM or SIGINT; host and port are those of the settings unless given.

    ``extra_routes`` may be a function that returns them: it is called when the first of them is asked for. Raises
    `Unavailable` if the port is taken and `Refused` if it would be open to others without a token.
    """
    host = store.settings.values.host if host is None else host
    port = store.settings.values.port if port is None else port
    check_binding(store.settings.values, host)
    listener = bind(host, port)
    state = store.settings.home / STATE_FILE
    app = create_app(store, extra_routes, host=host)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="off", http="httptools",
        loop="uvloop", backlog=2048, timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=GRACE_SECONDS,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn stops on the signal, then raises it again: end normally
    try:
        uvloop.run(_serve(_Server(config, state), listener, state, url_of(host, listener)))
    finally:
        app.close()
        _remove_state(state)
        listener.close()


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen; raise `Unavailable` that names the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that asyncio switches Nagle's algorithm off for the connections (40 ms otherwise).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"Port {port} on {host} is in use.",
                hint="Stop what uses it, or choose another: --port 0 picks a free one.",
            ) from error
        raise Unavailable(
            f"Cannot bind to {host} port {port}: {error.strerror}.", hint="Check host and port."
        ) from error
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """Return the address clients on this machine reach the listener at."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{listener.getsockname()[1]}"


class _Server(uvicorn.Server):
    """Takes its state file away when it is told to stop: nobody who comes now is sent to a server about to end."""

    def __init__(self, config: uvicorn.Config, state: Path) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop as uvicorn does."""
        _remove_state(self._state)
        super().handle_exit(sig, frame)


async def _serve(server: uvicorn.Server, listener: socket.socket, state: Path, url: str) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if server.started:
        _write_state(state, url)
    await serving


def _write_state(path: Path, url: str) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(msgspec.json.encode({"url": url, "pid": os.getpid()}))
    aside.replace(path)


def _remove_state(path: Path) -> None:
    """Remove the file unless another server has written it since."""
    try:
        if msgspec.json.decode(path.read_bytes())["pid"] == os.getpid():
            path.unlink()
    except (OSError, msgspec.DecodeError, KeyError):
        return
