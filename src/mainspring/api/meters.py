"""What the server tells Prometheus: requests and their time, by route template, never by what clients sent."""

from __future__ import annotations

from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp

from mainspring.api.boundary import ROUTE, Receive, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Meters:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mainspring_http_requests", "Requests answered.", ("method", "route", "code"), registry=self.registry
        )
        self._seconds = Histogram(
            "mainspring_http_request_seconds", "Time to answer.", ("route",), buckets=_BUCKETS, registry=self.registry
        )

    def observe(self, method: str, route: str, code: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, code).inc()
        self._seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Write the metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class Metering:
    """Middleware that measures every request."""

    def __init__(self, app: ASGIApp, *, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count it when it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, code = perf_counter(), 499

        async def send_and_look(message: Scope) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            self._meters.observe(_method(scope), _template(scope), code, perf_counter() - started)


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"


def _template(scope: Scope) -> str:
    """Return the template of the route that answered: as the handler said, or the path with its parts named."""
    if ROUTE in scope:
        return str(scope[ROUTE])
    parts = scope.get("path_params")
    if parts is None or "path" in parts:
        return "unmatched"
    path: str = scope["path"]
    for name, value in parts.items():
        path = path.replace(str(value), "{" + name + "}", 1) if value else path
    return path
