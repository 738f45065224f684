"""Traces for OpenTelemetry (extra ``telemetry``): one span per request, with receive, queue, predict and log below it.

The spans are made from the records that are logged, after the fact and off the caller's clock; the SDK sends them in
the background. Where to: the standard ``OTEL_EXPORTER_OTLP_*`` variables, or the URL that is passed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mainspring.core import Unavailable
from mainspring.serving.records import PredictionRecord
from mainspring.serving.tracing import NOT_RECORDED, span_of

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ImportError as error:
    raise Unavailable(f"Traces need OpenTelemetry: {error}.", hint="pip install 'mainspring[telemetry]'") from error

_SCOPE = InstrumentationScope("mainspring.serving")
_MS = 1_000_000


class Telemetry:
    """Sends the spans of one endpoint process; hand `record` to the prediction log as its observer."""

    def __init__(self, endpoint: str, url: str = "") -> None:
        self._resource = Resource.create({"service.name": "mainspring", "service.instance.id": endpoint})
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=url) if url else OTLPSpanExporter())

    def record(self, records: Sequence[PredictionRecord], log_seconds: float) -> None:
        """Queue the spans of a batch; what does not fit the SDK's queue is dropped, requests never wait for it."""
        for record in records:
            if record.parent_id != NOT_RECORDED:
                for span in self._spans(record, log_seconds):
                    self._processor.on_end(span)

    def close(self) -> None:
        """Send what is queued."""
        self._processor.shutdown()

    def _spans(self, record: PredictionRecord, log_seconds: float) -> Iterator[ReadableSpan]:
        trace_id = int(record.trace_id or os.urandom(16).hex(), 16)
        caller = _context(trace_id, record.parent_id, is_remote=True) if record.parent_id else None
        own = _context(trace_id, span_of(record.id))
        start = record.received_at * _MS
        answered = start + int(record.latency_ms * _MS)
        predict = answered - int(record.predict_ms * _MS)
        queue = predict - int(record.queue_ms * _MS)
        end = answered + int(log_seconds * 1000 * _MS)
        parts = (("receive", start, queue), ("queue", queue, predict), ("predict", predict, answered))
        for name, begun, ended in (*parts, ("log", answered, end)):
            if ended > begun:
                yield self._span(name, _context(trace_id, os.urandom(8).hex()), own, begun, ended, record)
        yield self._span(f"predict {record.endpoint}", own, caller, start, end, record, kind=SpanKind.SERVER)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        start: int,
        end: int,
        record: PredictionRecord,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> ReadableSpan:
        is_request = kind is SpanKind.SERVER
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=_attributes(record) if is_request else {},
            kind=kind,
            status=Status(StatusCode.ERROR if is_request and record.status >= 500 else StatusCode.UNSET),
            start_time=start,
            end_time=end,
            instrumentation_scope=_SCOPE,
        )


def open_telemetry(endpoint: str, url: str = "") -> Telemetry:
    """Start to send spans."""
    return Telemetry(endpoint, url)


def _context(trace_id: int, span_id: str, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))


def _attributes(record: PredictionRecord) -> dict[str, str | int | bool]:
    """Say what was asked and who answered; never what the values were."""
    return {
        "mainspring.request.id": record.id,
        "mainspring.endpoint": record.endpoint,
        "mainspring.variant": record.variant,
        "mainspring.model.name": record.model,
        "mainspring.model.version": record.version,
        "mainspring.protocol": record.protocol,
        "mainspring.shadow": record.shadow,
        "mainspring.rows": record.rows,
        "mainspring.batch.rows": record.batch_rows,
        "http.response.status_code": record.status,
    }
