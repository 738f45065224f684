"""What the server tells Prometheus: requests and their time, by route template, never by what clients sent.

Counting is two additions to plain numbers; Prometheus's library comes in when somebody asks for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from mainspring.api.boundary import ROUTE, App, Receive, Scope, Send

if TYPE_CHECKING:
    from prometheus_client import Metric

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Meters:
    """Counters of one server."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}

    def observe(self, method: str, route: str, code: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method, route, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        found = self._seconds.get(route)
        if found is None:
            found = self._seconds[route] = [0.0] * (len(BUCKETS) + 2)  # the last but one is +Inf, the last the sum
        found[bisect_left(BUCKETS, seconds)] += 1
        found[-1] += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as Prometheus's library wants them."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        labels = ("method", "route", "code")
        requests = CounterMetricFamily("mainspring_http_requests", "Requests answered.", labels=labels)
        for (method, route, code), count in sorted(self._requests.items()):
            requests.add_metric((method, route, str(code)), count)
        yield requests
        times = HistogramMetricFamily("mainspring_http_request_seconds", "Time to answer.", labels=("route",))
        for route, (*counts, total) in sorted(self._seconds.items()):
            times.add_metric((route,), _cumulated(counts), total)
        yield times

    def render(self) -> tuple[bytes, str]:
        """Write the metrics in Prometheus's text format; return them with its content type."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class Metering:
    """Middleware that measures every request."""

    def __init__(self, app: App, *, meters: Meters) -> None:
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


def _cumulated(counts: list[float]) -> list[tuple[str, float]]:
    total, found = 0.0, []
    for bound, count in zip((*(str(bound) for bound in BUCKETS), "+Inf"), counts, strict=True):
        total += count
        found.append((bound, total))
    return found


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "OTHER"


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
