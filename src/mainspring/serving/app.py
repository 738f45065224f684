"""The HTTP face of an endpoint: a plain ASGI application that routes to the protocols."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from mainspring import __version__
from mainspring.core import MainspringError, NotFound
from mainspring.serving import metrics
from mainspring.serving.endpoint import Call, Endpoint
from mainspring.serving.faults import Unauthorized, WrongMethod
from mainspring.serving.http import (
    CLOSE,
    ClientGone,
    Receive,
    Scope,
    Send,
    is_authorized,
    read_body,
    send_reply,
)
from mainspring.serving.protocols import mlflow, v1, v2
from mainspring.serving.wire import Headers, Reply, Wire, error_reply, json_reply, usable_id

_logger = logging.getLogger("mainspring.serving")
_TEXT = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """What the operator decides about the HTTP side."""

    max_body: int = 16 << 20
    """Bytes of a request body, as sent and inflated."""
    token: str = ""
    """Bearer token that everything but health routes needs; empty means none."""
    predict_route: str = ""
    """Vertex AI's ``AIP_PREDICT_ROUTE``."""
    health_route: str = ""
    """Vertex AI's ``AIP_HEALTH_ROUTE``."""


class App:
    """The ASGI application of one endpoint."""

    def __init__(self, endpoint: Endpoint, options: AppOptions) -> None:
        self._endpoint = endpoint
        self._options = options
        self._predict_paths: dict[str, tuple[Wire, str]] = {
            "/invocations": (mlflow.WIRE, ""),
            f"/v2/models/{endpoint.name}/infer": (v2.WIRE, ""),
            f"/v1/models/{endpoint.name}:predict": (v1.WIRE, ""),
        }
        if options.predict_route:
            self._predict_paths[options.predict_route] = (v1.WIRE, "")
        self._tellers: dict[str, Callable[[], Reply]] = {
            "/metrics": lambda: Reply(200, endpoint.metrics.render(), metrics.CONTENT_TYPE),
            "/version": lambda: Reply(200, __version__.encode(), _TEXT),
            "/v2": lambda: json_reply({"name": "mainspring", "version": __version__, "extensions": v2.EXTENSIONS}),
            "/v1/models": lambda: json_reply({"models": [endpoint.name]}),
            "/v2/models": lambda: json_reply({"models": [endpoint.name]}),
            f"/v1/models/{endpoint.name}": self._readiness,
            f"/v1/endpoints/{endpoint.name}": self._status,
        }
        self._health_paths = {"/ping", "/health", "/v2/health/live", "/v2/health/ready", options.health_route} - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: Headers = dict(scope["headers"])
        path: str = scope["path"]
        predict = self._predict_paths.get(path) or self._versioned_predict(path)
        if predict is not None:
            await self._predict(predict, scope["method"], headers, receive, send)
            return
        wire_fault = mlflow.fault if path == "/invocations" else error_reply
        try:
            self._authorize(path, headers)
            reply = await self._route(path, scope["method"], headers, receive)
        except ClientGone:
            return
        except MainspringError as error:
            reply = wire_fault(error)
        except Exception:  # noqa: BLE001 supervision point: the request boundary
            reply = self._failed(wire_fault)
        await send_reply(send, reply, _closing(reply))

    async def _predict(
        self, target: tuple[Wire, str], method: str, headers: Headers, receive: Receive, send: Send
    ) -> None:
        """Answer a prediction request, then queue it for the shadows."""
        wire, version = target
        try:
            _require(method, "POST")
            self._authorize("", headers)
        except MainspringError as error:
            await send_reply(send, wire.fault(error), [CLOSE])
            return
        call = Call(
            wire,
            received_at=self._endpoint.clock.now_ms(),
            id=usable_id(headers.get(b"x-request-id", b"").decode("latin-1")),
            split_key=headers.get(b"x-split-key", b"").decode("latin-1")[:200],
            version=version,
        )
        try:
            body = await read_body(receive, headers, self._options.max_body)
            reply = self._endpoint.predict(call, body, headers)
        except ClientGone:
            return
        except MainspringError as error:
            self._endpoint.refuse(call, error)
            reply = wire.fault(error)
        except Exception:  # noqa: BLE001 supervision point: the request boundary
            reply = self._failed(wire.fault)
            self._endpoint.refuse(call, MainspringError("The model failed on this request."))
        await send_reply(send, reply, [*_identity(call), *_closing(reply)])
        if reply.status == 200:
            self._endpoint.shadow(call)

    async def _route(self, path: str, method: str, headers: Headers, receive: Receive) -> Reply:
        endpoint = self._endpoint
        if path in self._health_paths:
            _require(method, "GET")
            return self._health(path)
        if path == f"/v1/endpoints/{endpoint.name}/labels":
            _require(method, "POST")
            _refuse_pages(headers)
            body = await read_body(receive, headers, self._options.max_body)
            return json_reply({"accepted": endpoint.add_labels(body)})
        if path == "/v2/repository/index":
            _require(method, "POST")
            return self._index()
        reply = self._describe(path)
        _require(method, "GET")
        return reply

    def _describe(self, path: str) -> Reply:
        """Answer the routes that only tell something."""
        tell = self._tellers.get(path)
        if tell is not None:
            return tell()
        if path.startswith("/v2/models/"):
            return self._describe_model(path)
        raise NotFound("There is no such route or model here.", hint=f"This endpoint serves {self._endpoint.name}.")

    def _describe_model(self, path: str) -> Reply:
        """Answer ``/v2/models/M[/versions/V][/ready]``."""
        parts = path.removeprefix("/v2/models/").split("/")
        ready = parts[-1] == "ready" and len(parts) in (2, 4)
        parts = parts[:-1] if ready else parts
        if parts[0] != self._endpoint.name or len(parts) not in (1, 3) or (len(parts) == 3 and parts[1] != "versions"):
            raise NotFound("There is no such route or model here.", hint=f"The model is {self._endpoint.name}.")
        router = self._endpoint.require_router()
        variant = router.with_version(unquote(parts[2])) if len(parts) == 3 else router.choose("")
        if ready:
            return self._readiness()
        return v2.describe(self._endpoint.name, variant.model, router.versions)

    def _readiness(self) -> Reply:
        ready = self._endpoint.is_ready
        return json_reply({"name": self._endpoint.name, "ready": ready}, 200 if ready else 503)

    def _health(self, path: str) -> Reply:
        if path == "/v2/health/live":
            return json_reply({"live": True})
        ready = self._endpoint.is_ready
        status = 200 if ready else 503
        if path in ("/ping", "/health"):
            return Reply(status, b"\n", b"application/json")
        router = self._endpoint.router
        revision = router.deployment.revision if router else 0
        return json_reply({"ready": ready, "revision": revision}, status)

    def _index(self) -> Reply:
        router = self._endpoint.router
        state = "READY" if self._endpoint.is_ready else "UNAVAILABLE"
        versions = router.versions if router else []
        return json_reply(
            [
                {"name": self._endpoint.name, "version": version, "state": state, "reason": self._endpoint.error}
                for version in versions
            ]
        )

    def _status(self) -> Reply:
        router = self._endpoint.router
        return json_reply(
            {
                "endpoint": self._endpoint.name,
                "ready": self._endpoint.is_ready,
                "revision": router.deployment.revision if router else 0,
                "variants": router.deployment.variants if router else [],
                "error": self._endpoint.error,
            }
        )

    def _versioned_predict(self, path: str) -> tuple[Wire, str] | None:
        prefix = f"/v2/models/{self._endpoint.name}/versions/"
        if path.startswith(prefix) and path.endswith("/infer"):
            version = path[len(prefix) : -len("/infer")]
            return (v2.WIRE, version) if version and "/" not in version else None
        return None

    def _authorize(self, path: str, headers: Headers) -> None:
        if path not in self._health_paths and not is_authorized(headers, self._options.token):
            raise Unauthorized("A bearer token is needed.", hint="Send Authorization: Bearer TOKEN.")

    @staticmethod
    def _failed(fault: Callable[[MainspringError], Reply]) -> Reply:
        _logger.exception("request.failed")
        return fault(MainspringError("The model failed on this request.", hint="The endpoint's log has the reason."))


def _require(method: str, wanted: str) -> None:
    if method != wanted:
        raise WrongMethod(f"This route is for {wanted}.")


def _closing(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Close the connection where the rest of the body is not read."""
    return [CLOSE] if reply.status in (401, 405, 408, 413) else []


def _identity(call: Call) -> list[tuple[bytes, bytes]]:
    """Make the headers that say which request this was and what answered it."""
    headers = [(b"x-request-id", call.id.encode())]
    if call.variant is not None:
        reference = call.variant.model.reference
        headers += [
            (b"x-model-version", reference.version.encode()),
            (b"x-model-digest", reference.digest.encode()),
            (b"x-variant", call.variant.name.encode()),
        ]
    return headers


def _refuse_pages(headers: Headers) -> None:
    """Refuse labels from a web page: what is true is not for whatever site the operator happens to visit to say."""
    if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise Unauthorized("Labels are not taken from web pages.", hint="Send them from a program.")
