"""The routes of an endpoint process: which protocol reads a request, and what the describing routes tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from mainspring import __version__
from mainspring.core import MainspringError, NotFound, Refused
from mainspring.serving import metrics
from mainspring.serving.calls import make_call
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.faults import Unauthorized, WrongMethod
from mainspring.serving.http import HttpLimits, Request, Respond, is_authorized
from mainspring.serving.protocols import mlflow, v1, v2
from mainspring.serving.wire import Headers, Reply, Wire, error_reply, inflate, json_reply

_logger = logging.getLogger("mainspring.serving")
_TEXT = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """What the operator decides about the HTTP side."""

    limits: HttpLimits = field(default_factory=HttpLimits)
    token: str = ""
    """Bearer token that everything but health routes needs; empty means none."""
    allows_anonymous: bool = False
    """Listen to other machines without a token: inside a container whose platform checks who calls."""
    predict_route: str = ""
    """Vertex AI's ``AIP_PREDICT_ROUTE``."""
    health_route: str = ""
    """Vertex AI's ``AIP_HEALTH_ROUTE``."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a prediction request goes."""

    wire: Wire
    endpoint: Endpoint
    version: str = ""


class App:
    """The application of one process: one endpoint, or several by name; the first answers routes without a name."""

    def __init__(
        self,
        endpoints: Endpoint | Iterable[Endpoint],
        options: AppOptions,
        render_metrics: Callable[[], bytes] | None = None,
    ) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.options = options
        self._render_metrics = render_metrics or self._own_metrics
        self._targets: dict[str, _Target] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tellers: dict[str, Callable[[str], Reply]] = {
            "/v1/models/": lambda name: _readiness(self._endpoint(name)),
            "/v1/endpoints/": lambda name: _status(self._endpoint(name)),
            "/v2/models/": self._describe_model,
            "/api/2.0/endpoints/": self._deployments,
        }
        self._health_paths = {"/ping", "/health", "/v2/health/live", "/v2/health/ready", options.health_route} - {""}
        for endpoint in [endpoints] if isinstance(endpoints, Endpoint) else endpoints:
            self.add(endpoint)

    @property
    def first(self) -> Endpoint:
        """The endpoint that answers routes without a name."""
        return next(iter(self.endpoints.values()))

    def add(self, endpoint: Endpoint) -> None:
        """Answer for an endpoint too."""
        self.endpoints[endpoint.name] = endpoint
        self._route_predictions()

    def remove(self, name: str) -> Endpoint:
        """Answer for an endpoint no more."""
        endpoint = self.endpoints.pop(name)
        self._route_predictions()
        return endpoint

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request, now or later."""
        target = self._targets.get(request.path) or self._versioned(request.path)
        if target is not None:
            self._predict(target, request, respond)
            return
        fault = mlflow.fault if request.path == "/invocations" else error_reply
        try:
            self._authorize(request.path, request.headers)
            reply = self._route(request, respond)
        except MainspringError as error:
            reply = fault(error)
        except Exception:  # noqa: BLE001 supervision point: the request boundary
            reply = _failed(fault)
        if reply is not None:
            respond(reply)

    def is_healthy(self) -> bool:
        """Say whether every endpoint is ready."""
        return all(endpoint.is_ready for endpoint in self.endpoints.values())

    def _predict(self, target: _Target, request: Request, respond: Respond) -> None:
        wire, endpoint, headers = target.wire, target.endpoint, request.headers
        try:
            if request.method != "POST":
                raise WrongMethod("This route is for POST.")
            self._authorize("", headers)
            call = make_call(wire, respond, endpoint.clock.now_ms(), headers)
        except MainspringError as error:
            respond(wire.fault(error))
            return
        call.version = target.version
        call.is_gone = request.is_gone
        try:
            encoding = headers.get(b"content-encoding", b"")
            body = inflate(request.body, encoding.lower(), self.options.limits.max_body) if encoding else request.body
            endpoint.predict(call, body, headers)
        except MainspringError as error:
            endpoint.refuse(call, error)
        except Exception:
            _logger.exception("request.failed")
            endpoint.refuse(call, MainspringError("This request failed.", hint="The endpoint's log has the reason."))

    def _route(self, request: Request, respond: Respond) -> Reply | None:
        """Answer a route that does not predict; None if the answer comes later."""
        path, headers = request.path, request.headers
        if path in self._health_paths:
            _require(request, "GET")
            return self._health(path)
        if path.startswith("/v1/"):
            name, _, verb = path.removeprefix("/v1/models/").removeprefix("/v1/endpoints/").partition(":")
            if verb == "explain":
                _require(request, "POST")
                self._explain(self._endpoint(name), request, respond)
                return None
            if path.startswith("/v1/endpoints/") and path.endswith("/labels"):
                _require(request, "POST")
                _refuse_pages(headers)
                endpoint = self._endpoint(path[len("/v1/endpoints/") : -len("/labels")])
                body = inflate(
                    request.body, headers.get(b"content-encoding", b"").lower(), self.options.limits.max_body
                )
                return json_reply({"accepted": endpoint.add_labels(body)})
        if path == "/v2/repository/index":
            _require(request, "POST")
            return json_reply(self._index(v2.wants_ready_only(request.body)))
        if path.startswith("/v2/repository/models/"):
            raise Refused("Models are not loaded here.", hint="Use the management listener: --management HOST:PORT.")
        reply = self._describe(path)
        _require(request, "GET")
        return reply

    def _describe(self, path: str) -> Reply:
        """Answer the routes that only tell something."""
        if path == "/metrics":
            return Reply(200, self._render_metrics(), metrics.CONTENT_TYPE)
        if path == "/version":
            return Reply(200, __version__.encode(), _TEXT)
        if path == "/v2":
            return json_reply({"name": "mainspring", "version": __version__, "extensions": v2.EXTENSIONS})
        if path in ("/v1/models", "/v2/models"):
            return json_reply({"models": list(self.endpoints)})
        for prefix, tell in self._tellers.items():
            if path.startswith(prefix):
                return tell(path.removeprefix(prefix))
        raise NotFound("There is no such route or model here.", hint=f"This endpoint serves {self._names()}.")

    def _describe_model(self, rest: str) -> Reply:
        """Answer ``/v2/models/M[/versions/V][/ready]``."""
        parts = rest.split("/")
        ready = parts[-1] == "ready" and len(parts) in (2, 4)
        parts = parts[:-1] if ready else parts
        endpoint = self._endpoint(parts[0])
        if len(parts) not in (1, 3) or (len(parts) == 3 and parts[1] != "versions"):
            raise NotFound("There is no such route or model here.", hint=f"The model is {endpoint.name}.")
        if ready and endpoint.router is None:
            return _readiness(endpoint)
        router = endpoint.require_router()
        variant = router.with_version(unquote(parts[2])) if len(parts) == 3 else router.choose("")
        if ready:
            return _readiness(endpoint)
        return v2.describe(endpoint.name, variant.model, router.versions)

    def _deployments(self, name: str) -> Reply:
        """Answer what MLflow's deployments client asks about endpoints: one, or all of them."""
        if name:
            return json_reply(mlflow.describe(self._endpoint(name).name))
        return json_reply({"endpoints": [mlflow.describe(one) for one in self.endpoints]})

    def _health(self, path: str) -> Reply:
        if path == "/v2/health/live":
            live = not any(endpoint.is_sick for endpoint in self.endpoints.values())
            return json_reply({"live": live}, 200 if live else 503)
        ready = self.is_healthy()
        status = 200 if ready else 503
        if path in ("/ping", "/health"):
            return Reply(status, b"\n", b"application/json")
        router = self.first.router if self.endpoints else None
        revision = router.deployment.revision if router else 0
        return json_reply({"ready": ready, "revision": revision}, status)

    def _index(self, ready_only: bool) -> list[dict[str, str]]:
        found = []
        for endpoint in self.endpoints.values():
            state = "READY" if endpoint.is_ready else "UNAVAILABLE"
            versions = endpoint.router.versions if endpoint.router else []
            found += [
                {"name": endpoint.name, "version": version, "state": state, "reason": endpoint.error}
                for version in versions or [""]
                if state == "READY" or not ready_only
            ]
        return found

    def _explain(self, endpoint: Endpoint, request: Request, respond: Respond) -> None:
        body = inflate(
            request.body, request.headers.get(b"content-encoding", b"").lower(), self.options.limits.max_body
        )
        parsed = v1.parse(body, request.headers)

        async def explain() -> None:
            try:
                reply = json_reply({"explanations": await endpoint.explain(parsed)})
            except MainspringError as error:
                reply = error_reply(error)
            except TimeoutError:
                reply = json_reply({"error": "The explanation took too long."}, 504)
            except Exception:  # noqa: BLE001 supervision point: the request boundary
                reply = _failed(error_reply)
            respond(reply)

        task = asyncio.get_running_loop().create_task(explain())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            raise NotFound("There is no such route or model here.", hint=f"This endpoint serves {self._names()}.")
        return endpoint

    def _names(self) -> str:
        return ", ".join(list(self.endpoints)[:5]) or "no model yet"

    def _versioned(self, path: str) -> _Target | None:
        """Read ``/v2/models/M/versions/V/infer``."""
        if not path.endswith("/infer"):
            return None
        parts = path.split("/")
        if len(parts) != 7 or parts[1:3] != ["v2", "models"] or parts[4] != "versions" or not parts[5]:
            return None
        endpoint = self.endpoints.get(parts[3])
        return None if endpoint is None else _Target(v2.WIRE, endpoint, parts[5])

    def _route_predictions(self) -> None:
        targets: dict[str, _Target] = {}
        for name, endpoint in self.endpoints.items():
            targets[f"/v2/models/{name}/infer"] = _Target(v2.WIRE, endpoint)
            targets[f"/v1/models/{name}:predict"] = _Target(v1.WIRE, endpoint)
            targets[f"/v1/endpoints/{name}:predict"] = _Target(v1.WIRE, endpoint)
            targets[f"/endpoints/{name}/invocations"] = _Target(mlflow.WIRE, endpoint)
        if self.endpoints:
            targets["/invocations"] = _Target(mlflow.WIRE, self.first)
            if self.options.predict_route:
                targets[self.options.predict_route] = _Target(v1.WIRE, self.first)
        self._targets = targets

    def _authorize(self, path: str, headers: Headers) -> None:
        if path not in self._health_paths and not is_authorized(headers, self.options.token):
            raise Unauthorized("A bearer token is needed.", hint="Send Authorization: Bearer TOKEN.")

    def _own_metrics(self) -> bytes:
        return b"".join(endpoint.metrics.render() for endpoint in self.endpoints.values())


def _readiness(endpoint: Endpoint) -> Reply:
    return json_reply({"name": endpoint.name, "ready": endpoint.is_ready}, 200 if endpoint.is_ready else 503)


def _status(endpoint: Endpoint) -> Reply:
    router = endpoint.router
    return json_reply(
        {
            "endpoint": endpoint.name,
            "ready": endpoint.is_ready,
            "revision": router.deployment.revision if router else 0,
            "variants": router.deployment.variants if router else [],
            "error": endpoint.error,
            "log": {"is_dropping": endpoint.log.is_dropping, "dropped": endpoint.log.dropped},
        }
    )


def _failed(fault: Callable[[MainspringError], Reply]) -> Reply:
    _logger.exception("request.failed")
    return fault(MainspringError("This request failed.", hint="The endpoint's log has the reason."))


def _require(request: Request, wanted: str) -> None:
    if request.method != wanted and not (wanted == "GET" and request.method == "HEAD"):
        raise WrongMethod(f"This route is for {wanted}.")


def _refuse_pages(headers: Headers) -> None:
    """Refuse labels from a web page: what is true is not for whatever site the operator happens to visit to say."""
    if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise Unauthorized("Labels are not taken from web pages.", hint="Send them from a program.")
