"""The endpoint process: bind, load, serve, follow the deployment file, and stop without losing anything."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import uvloop

from mainspring.core import Clock, MainspringError, Refused, SystemClock
from mainspring.serving.allocator import give_back, share_heaps
from mainspring.serving.app import App, AppOptions
from mainspring.serving.deployment import write_atomically, write_deployment
from mainspring.serving.door import Door
from mainspring.serving.endpoint import Endpoint, EndpointOptions
from mainspring.serving.listeners import HANDSHAKE_SECONDS, is_loopback, listen, turn_away
from mainspring.serving.repository import Repository, describe_folder
from mainspring.serving.sharing import Sharing
from mainspring.serving.threads import run_in_thread

_logger = logging.getLogger("mainspring.serving")
_GRACE_SECONDS = 5.0
_SHADOW_SECONDS = 2.0
_SWITCH_SECONDS = 0.001
SICK_STATUS = 70
"""Exit status of a process that ends because its model hangs: start it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How one endpoint process is run."""

    endpoint: str
    folder: Path
    host: str = "127.0.0.1"
    port: int = 8080
    """0 picks a free one; ``endpoint.json`` in the folder says which."""
    model: Path | None = None
    """Serve this model folder alone, without a control plane: writes a deployment with one variant."""
    clock: Clock = field(default_factory=SystemClock)
    options: EndpointOptions = field(default_factory=EndpointOptions)
    app: AppOptions = field(default_factory=AppOptions)
    listener: int = -1
    """Descriptor of a listening socket that a supervisor shares among its workers."""
    worker: int = -1
    """Which of the supervisor's workers this is; -1 if there is no supervisor."""
    management: str = ""
    """``host:port`` of the management routes; empty means none."""
    repository: Path | None = None
    """Folder of model folders that the management routes may load."""
    grpc_port: int = -1
    otel: bool = False
    prestop_seconds: float = 0.0
    """Go on accepting for so long after SIGTERM, not ready any more, so that load balancers look elsewhere first."""


def serve(options: ServeOptions) -> int:
    """Run an endpoint until SIGTERM or SIGINT; answers and logs everything that was accepted before it returns."""
    if options.model is not None and options.worker < 0:
        deploy_folder(options)
    listener = take_listener(options)
    share_heaps()
    sys.setswitchinterval(_SWITCH_SECONDS)
    endpoint = Endpoint(options.endpoint, options.folder, options.clock, options.options)
    process = _Process(options, endpoint, listener)
    status: int = uvloop.run(process.run(process.run_door()))
    return status


class _Process:
    """One running endpoint process."""

    def __init__(self, options: ServeOptions, endpoint: Endpoint, listener: socket.socket) -> None:
        self.options = options
        self.endpoint = endpoint
        self.listener = listener
        self.sharing = Sharing(options.folder, options.worker, endpoint)
        self.app = App(endpoint, options.app, self.sharing.render if options.worker >= 0 else None)
        self.stopping = asyncio.Event()
        self.status = 0
        self._loaded = asyncio.Event()

    async def run(self, serving: Awaitable[None]) -> int:
        """Serve until the process is told to stop, then finish what was accepted; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self.endpoint.forget_deployment)
        is_alone = self.options.worker < 0
        # Alone, probes are answered while the model loads; one of several workers takes no client until it is ready.
        main = asyncio.ensure_future(serving if is_alone else self._serve_when_loaded(serving))
        closers: list[Callable[[], Awaitable[None]]] = []
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._load()
            self._loaded.set()
            closers = await self._open_others()
            announce(self.listener, self.options)
            tasks = [asyncio.create_task(self.endpoint.watch()), asyncio.create_task(self._watch_health())]
            if self.options.worker >= 0:
                tasks.append(asyncio.create_task(self.sharing.publish()))
            await main
            await self.endpoint.finish(_SHADOW_SECONDS)
        finally:
            main.cancel()
            for close in reversed(closers):
                await close()
            for task in tasks:
                task.cancel()
        self.sharing.write()
        self.endpoint.close()
        _logger.info("endpoint.stopped", extra={"fields": {"endpoint": self.endpoint.name, "status": self.status}})
        return self.status

    async def run_door(self) -> None:
        """Serve our own connections until the process is told to stop, then drain them."""
        door = Door(self.app.handle, self.options.app.limits)
        door.open(self.listener.dup())
        await self.stopping.wait()
        await asyncio.sleep(self.options.prestop_seconds)
        if self.options.worker < 0:
            turn_away(self.listener)
            await asyncio.sleep(HANDSHAKE_SECONDS)
        else:  # it is for the supervisor to turn away: to replace this worker alone, nobody is
            await asyncio.sleep(3 * HANDSHAKE_SECONDS)
        self.listener.close()
        door.stop_accepting()
        await door.drain(_GRACE_SECONDS)

    async def _serve_when_loaded(self, serving: Awaitable[None]) -> None:
        await self._loaded.wait()
        await serving

    def _stop(self) -> None:
        """Stop gracefully: not ready any more from this moment."""
        self.endpoint.is_draining = True
        self.stopping.set()

    async def _load(self) -> None:
        """Load the deployment beside the running loop, so that probes are answered meanwhile."""
        endpoint = self.endpoint
        if endpoint.deployment_path.exists():
            await run_in_thread(endpoint.reload)
        if self.options.model is not None and endpoint.error:
            raise Refused(endpoint.error)
        give_back()

    async def _open_others(self) -> list[Callable[[], Awaitable[None]]]:
        """Open the listeners beside the main one; return what closes them."""
        options = self.options
        closers: list[Callable[[], Awaitable[None]]] = []
        repository = Repository(self.app, options.repository, options.folder / "models", options.clock, options.options)
        if options.management:
            # Late: only where the operator asks for it; the same for what follows.
            from mainspring.serving.management import Management, ManagementOptions

            where = ManagementOptions(address=options.management, token=options.app.token)
            management = Management(self.app, repository, options.folder, where)
            management.open()
            closers.append(management.close)
        if options.grpc_port >= 0:
            from mainspring.serving.grpc import GrpcOptions, start_grpc

            grpc = await start_grpc(
                self.app,
                GrpcOptions(
                    host=options.host,
                    port=options.grpc_port,
                    token=options.app.token,
                    max_message=options.app.limits.max_body,
                    is_shared=options.worker >= 0,
                ),
            )
            closers.append(lambda: grpc.stop(_GRACE_SECONDS))
        if options.otel:
            from mainspring.serving.telemetry import Telemetry

            telemetry = Telemetry(options.endpoint)
            self.endpoint.log.observer = telemetry.record
            closers.append(lambda: run_in_thread(telemetry.close))
        return closers

    async def _watch_health(self) -> None:
        """End a process whose model calls never return: whoever supervises it starts a fresh one."""
        while not self.endpoint.is_sick:
            await asyncio.sleep(0.5)
        _logger.error("endpoint.sick", extra={"fields": {"endpoint": self.endpoint.name}})
        self.status = SICK_STATUS
        self._stop()


def deploy_folder(options: ServeOptions) -> None:
    """Write a deployment whose one variant is the model in ``options.model``; its digest stands for its version."""
    assert options.model is not None
    deployment = describe_folder(options.endpoint, options.model)
    path = options.folder / "deployment.json"
    write_deployment(path, deployment)


def take_listener(options: ServeOptions) -> socket.socket:
    """Return the supervisor's listening socket, or one of our own."""
    return socket.socket(fileno=options.listener) if options.listener >= 0 else bind(options)


def bind(options: ServeOptions) -> socket.socket:
    """Bind and listen before anything is loaded; raise `Unavailable` if the port is taken."""
    host, port = options.host, options.port
    if not is_loopback(host) and not options.app.token and not options.app.allows_anonymous:
        raise Refused(
            f"Binding to {host} needs a token.",
            hint="Pass --token, bind to 127.0.0.1, or pass --allow-anonymous inside a platform that checks callers.",
        )
    return listen(host, port)


def configure_logging() -> None:
    """Write every log record as one JSON line to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Turn a record into one line of JSON."""
        document = {"event": record.getMessage(), "level": record.levelname.lower(), "time": int(record.created * 1000)}
        document.update(getattr(record, "fields", {}))
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(document).decode()


def report_failure(error: MainspringError) -> int:
    """Log why a process could not start, in one line; return its exit status."""
    fields = {"error": error.message, "hint": error.hint, "code": error.code}
    _logger.error("endpoint.failed", extra={"fields": fields})
    return error.exit_status


def announce(listener: socket.socket, options: ServeOptions) -> None:
    """Write where the endpoint listens to ``endpoint.json`` and to the log; a worker leaves that to its supervisor."""
    if options.worker >= 0:
        return
    port = listener.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{port}"
    write_atomically(options.folder / "endpoint.json", msgspec.json.encode({"url": url, "pid": os.getpid()}))
    _logger.info("endpoint.listening", extra={"fields": {"endpoint": options.endpoint, "url": url}})
