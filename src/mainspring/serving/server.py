"""The endpoint process: bind, load, serve, follow the deployment file, and stop without losing anything."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from mainspring.core import Clock, InvalidInput, Refused, SystemClock, Unavailable
from mainspring.serving.app import App, AppOptions
from mainspring.serving.deployment import Deployment, ModelReference, Variant, write_atomically, write_deployment
from mainspring.serving.draining import DrainingProtocol, DrainingServer
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.mlmodel import read_mlmodel, tree_digest

_logger = logging.getLogger("mainspring.serving")
_GRACE_SECONDS = 5
_SHADOW_SECONDS = 2.0
_KEEP_ALIVE_SECONDS = 75


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
    allow_pickle: bool = False
    app: AppOptions = field(default_factory=AppOptions)


def serve(options: ServeOptions) -> None:
    """Run an endpoint until SIGTERM or SIGINT; answers and logs everything that was accepted before it returns."""
    if options.model is not None:
        deploy_folder(options)
    listener = bind(options)
    endpoint = Endpoint(options.endpoint, options.folder, options.clock, allow_pickle=options.allow_pickle)
    if endpoint.deployment_path.exists():
        endpoint.reload()
    if options.model is not None and endpoint.error:
        raise Refused(endpoint.error)
    uvloop.run(_serve(endpoint, App(endpoint, options.app), listener, options))


def deploy_folder(options: ServeOptions) -> None:
    """Write a deployment whose one variant is the model in ``options.model``; its digest stands for its version."""
    assert options.model is not None
    folder = options.model.resolve()
    read_mlmodel(folder)
    digest = tree_digest(folder)
    version = digest.removeprefix("sha256:")[:12]
    reference = ModelReference(name=options.endpoint, version=version, digest=digest, folder=str(folder))
    variant = Variant(name="champion", weight=100, model=reference)
    deployment = Deployment(endpoint=options.endpoint, revision=1, variants=[variant])
    write_deployment(options.folder / "deployment.json", deployment)


def bind(options: ServeOptions) -> socket.socket:
    """Bind and listen before anything is loaded; raise `Unavailable` if the port is taken."""
    host, port = options.host, options.port
    if not _is_loopback(host) and not options.app.token:
        raise Refused(f"Binding to {host} needs a token.", hint="Pass --token, or bind to 127.0.0.1.")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(f"Port {port} on {host} is in use.", hint="Pass another --port, or 0.") from error
        raise Unavailable(f"Cannot bind to {host}:{port}: {error.strerror}.") from error
    except OverflowError as error:
        listener.close()
        raise InvalidInput(f"{port} is not a port.", hint="Use 0 to 65535.") from error
    return listener


def configure_logging() -> None:
    """Write every log record as one JSON line to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Turn a record into one line of JSON."""
        document = {"event": record.getMessage(), "level": record.levelname.lower(), "time": int(record.created * 1000)}
        document.update(getattr(record, "fields", {}))
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(document).decode()


async def _serve(endpoint: Endpoint, app: App, listener: socket.socket, options: ServeOptions) -> None:
    def stop() -> None:
        endpoint.is_draining = True

    config = uvicorn.Config(
        app,
        http=DrainingProtocol,
        loop="none",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        interface="asgi3",
    )
    _announce(listener, options)
    tasks = [asyncio.create_task(endpoint.watch()), asyncio.create_task(endpoint.run_shadows())]
    await DrainingServer(config, stop).serve(sockets=[listener])
    await _finish_shadows(endpoint)
    for task in tasks:
        task.cancel()
    endpoint.close()
    _logger.info("endpoint.stopped", extra={"fields": {"endpoint": endpoint.name}})


async def _finish_shadows(endpoint: Endpoint) -> None:
    """Give the queued shadows a moment to be predicted."""
    for _ in range(int(_SHADOW_SECONDS / 0.01)):
        if not endpoint.has_shadows:
            return
        await asyncio.sleep(0.01)


def _announce(listener: socket.socket, options: ServeOptions) -> None:
    """Write where the endpoint listens to ``endpoint.json`` and to the log."""
    port = listener.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{port}"
    write_atomically(options.folder / "endpoint.json", msgspec.json.encode({"url": url, "pid": os.getpid()}))
    _logger.info("endpoint.listening", extra={"fields": {"endpoint": options.endpoint, "url": url}})


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
