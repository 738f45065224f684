"""The management routes, on a listener of their own: load, unload, reload, status. Loopback and a token, always.

Nothing in a request can name a file, a folder or an address: a model is named, and must be in the repository.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mainspring.core import InvalidInput, MainspringError, NotFound, Refused
from mainspring.serving.app import App
from mainspring.serving.deployment import write_atomically
from mainspring.serving.door import Door
from mainspring.serving.faults import BadRequest, Unauthorized, WrongMethod
from mainspring.serving.http import HttpLimits, Request, Respond, is_authorized
from mainspring.serving.listeners import is_loopback, listen
from mainspring.serving.repository import Repository
from mainspring.serving.wire import Reply, decode_json, error_reply, json_reply

FILE = "management.json"
_LIMITS = HttpLimits(max_body=64 << 10, max_connections=64, max_per_client=64)
_ANY = msgspec.json.Decoder(dict[str, object])


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementOptions:
    """Where the management routes are, and who may use them."""

    address: str
    """``host:port``; port 0 picks a free one."""
    token: str = ""
    """Empty makes one; it is in ``management.json`` in the endpoint's folder, which only the owner can read."""


class Management:
    """The management routes of a process."""

    def __init__(self, app: App, repository: Repository, folder: Path, options: ManagementOptions) -> None:
        self._app = app
        self._repository = repository
        self._folder = folder
        self._host, self._port = _read_address(options.address)
        if not is_loopback(self._host) and not options.token:
            raise Refused(f"Management on {self._host} needs a token of yours.", hint="Pass --token, or 127.0.0.1:0.")
        self._token = options.token or secrets.token_urlsafe(24)
        self._door = Door(self.handle, _LIMITS)
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen, and write down where and with which token."""
        listener = listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        url = f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"
        path = self._folder / FILE
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        write_atomically(path, msgspec.json.encode({"url": url, "token": self._token}))
        path.chmod(0o600)
        self._door.open(listener)

    async def close(self) -> None:
        """Stop listening, and let the repository's models go."""
        self._door.stop_accepting()
        await self._door.drain(1.0)
        await self._repository.close()
        (self._folder / FILE).unlink(missing_ok=True)

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request, later."""
        task = asyncio.get_running_loop().create_task(self._answer(request, respond))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request, respond: Respond) -> None:
        try:
            self._check(request)
            reply = await self._route(request)
        except MainspringError as error:
            reply = error_reply(error)
        except Exception:  # noqa: BLE001 supervision point: the request boundary
            reply = error_reply(MainspringError("This request failed.", hint="The endpoint's log has the reason."))
        respond(reply)

    def _check(self, request: Request) -> None:
        """Refuse strangers, web pages, and names that somebody made lead here."""
        headers = request.headers
        host = headers.get(b"host", b"").decode("latin-1").rpartition(":")[0].strip("[]")
        if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            raise Unauthorized("Management is not for web pages.")
        if host not in ("localhost", "127.0.0.1", "::1", self._host):
            raise Unauthorized("Management is not at this name.", hint="Call it by its address.")
        if not is_authorized(headers, self._token):
            raise Unauthorized("A bearer token is needed.", hint=f"It is in {FILE} in the endpoint's folder.")

    async def _route(self, request: Request) -> Reply:
        path, method = request.path, request.method
        if path == "/v1/status":
            _require(method, "GET")
            return self._status()
        parts = path.strip("/").split("/")
        verbs: dict[tuple[str, ...], Callable[[str], Awaitable[None]]] = {
            ("v2", "repository", "models", "load"): self._repository.load,
            ("v2", "repository", "models", "unload"): self._repository.unload,
            ("v1", "endpoints", "reload"): self._repository.reload,
        }
        verb = verbs.get((*parts[:-2], parts[-1])) if len(parts) >= 4 else None
        if verb is None:
            raise NotFound("There is no such management route.")
        _require(method, "POST")
        _refuse_contents(request.body)
        await verb(parts[-2])
        return json_reply({})

    def _status(self) -> Reply:
        models = [
            {
                "name": endpoint.name,
                "ready": endpoint.is_ready,
                "revision": endpoint.router.deployment.revision if endpoint.router else 0,
                "versions": endpoint.router.versions if endpoint.router else [],
                "error": endpoint.error,
            }
            for endpoint in self._app.endpoints.values()
        ]
        return json_reply({"models": models, "repository": self._repository.names()})


def _refuse_contents(body: bytes) -> None:
    """Refuse what Triton would take: configurations and files in the request."""
    if not body.strip():
        return
    document = decode_json(_ANY, body)
    if document.get("parameters") or document.keys() - {"parameters"}:
        raise BadRequest("nothing is loaded from a request: the body must be empty")


def _require(method: str, wanted: str) -> None:
    if method != wanted:
        raise WrongMethod(f"This route is for {wanted}.")


def _read_address(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise InvalidInput(f"{address[:60]!r} is not host:port.", hint="For example 127.0.0.1:8079.")
    return host.strip("[]"), int(port)
