"""What the endpoint tells Prometheus: labels come from the deployment and the status codes, never from requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = ("endpoint", "variant", "version")
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()


class Metrics:
    """The metrics of one endpoint process, with the children bound once."""

    def __init__(self, endpoint: str) -> None:
        self.registry = CollectorRegistry()
        self._endpoint = endpoint
        registry = self.registry
        self._requests = Counter(
            "mainspring_requests", "Prediction requests answered.", (*_LABELS, "code"), registry=registry
        )
        self._seconds = Histogram(
            "mainspring_request_seconds", "Time to answer.", _LABELS, buckets=_BUCKETS, registry=registry
        )
        self._rows = Counter("mainspring_rows", "Rows predicted for callers.", _LABELS, registry=registry)
        self._shadows = Counter("mainspring_shadow_rows", "Rows predicted in shadow.", _LABELS, registry=registry)
        one = ("endpoint",)
        self.shadows_dropped = Counter(
            "mainspring_shadow_dropped", "Requests not shadowed because the queue was full.", one, registry=registry
        ).labels(endpoint)
        self.log_bytes = Counter(
            "mainspring_prediction_log_bytes", "Bytes appended to the prediction log.", one, registry=registry
        ).labels(endpoint)
        self.log_failures = Counter(
            "mainspring_prediction_log_failures", "Records the disk refused.", one, registry=registry
        ).labels(endpoint)
        self.labels = Counter("mainspring_labels", "Labels received.", one, registry=registry).labels(endpoint)
        self.revision = Gauge(
            "mainspring_deployment_revision", "Revision of the deployment that answers.", one, registry=registry
        ).labels(endpoint)
        self.deployment_error = Gauge(
            "mainspring_deployment_error",
            "1 while the newest deployment file cannot be loaded.",
            one,
            registry=registry,
        ).labels(endpoint)
        self._bound: dict[tuple[str, str, int], tuple[Counter, Histogram, Counter]] = {}

    def observe(self, variant: str, version: str, code: int, seconds: float, rows: int) -> None:
        """Count one answered request."""
        bound = self._bound.get((variant, version, code))
        if bound is None:
            labels = (self._endpoint, variant, version)
            bound = (self._requests.labels(*labels, code), self._seconds.labels(*labels), self._rows.labels(*labels))
            self._bound[(variant, version, code)] = bound
        bound[0].inc()
        bound[1].observe(seconds)
        bound[2].inc(rows)

    def observe_shadow(self, variant: str, version: str, rows: int) -> None:
        """Count one shadowed request."""
        self._shadows.labels(self._endpoint, variant, version).inc(rows)

    def render(self) -> bytes:
        """Write the metrics in Prometheus's text format."""
        return generate_latest(self.registry)
