"""Traces go on from the caller's, and arrive at a collector."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mainspring.serving import PredictionRecord
from mainspring.serving.prediction_log import PredictionLog
from mainspring.serving.telemetry import open_telemetry
from mainspring.serving.tracing import NOT_RECORDED, TraceContext, read_traceparent, start_trace

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_trace_goes_on_below_the_callers_span():
    caller = read_traceparent(f"00-{TRACE}-{SPAN}-01".encode())
    assert caller == TraceContext(TRACE, SPAN, is_sampled=True)
    ours = caller.child(bytes(range(8)))
    assert ours.header == f"00-{TRACE}-0001020304050607-01".encode()
    assert ours.parent_id == SPAN
    assert caller.recorded_parent == SPAN


def test_a_caller_that_does_not_record_is_not_recorded():
    caller = read_traceparent(f"00-{TRACE}-{SPAN}-00".encode())
    assert caller.recorded_parent == NOT_RECORDED
    assert caller.child().header.endswith(b"-00")


@pytest.mark.parametrize(
    "header",
    [
        "", "x", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}", "00-" + "a" * 600,
    ],
)  # fmt: skip
def test_a_broken_header_is_ignored(header):
    assert read_traceparent(header.encode()) is None


def test_a_later_version_is_read_as_far_as_it_is_known():
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-01-what-comes".encode()).trace_id == TRACE


@given(st.binary(max_size=80))
@example(b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-03")
def test_whatever_is_read_is_written_as_it_was(header):
    found = read_traceparent(header)
    if found is not None and header.startswith(b"00"):
        assert read_traceparent(found.header) == found


def test_a_new_trace_has_ids_of_the_right_size():
    made = start_trace()
    assert read_traceparent(made.header) == made


@pytest.fixture
def collector():
    """An OTLP collector over HTTP that keeps the spans it is sent."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *given):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    server.server_close()


def _record(id: str, **changes: object) -> PredictionRecord:
    fields: dict = {
        "id": id, "received_at": 1_000_000, "latency_ms": 9.0, "queue_ms": 2.0, "predict_ms": 4.0, "batch_rows": 8,
        "endpoint": "e", "revision": 1, "variant": "champion", "shadow": False, "model": "m", "version": "1",
        "digest": "d", "protocol": "v2", "status": 200, "rows": 1, "inputs": {"name": ["Ada"]}, "outputs": [0.5],
    }  # fmt: skip
    return PredictionRecord(**(fields | changes))


def test_the_spans_of_a_logged_batch_arrive_at_a_collector(collector, tmp_path, clock):
    url, spans = collector
    telemetry = open_telemetry("e", url)
    log = PredictionLog(tmp_path / "predictions", clock)
    log.observer = telemetry.record
    log.append([
        _record("traced", trace_id=TRACE, parent_id=SPAN),
        _record("quiet", trace_id="1" * 32, parent_id=NOT_RECORDED),
        _record("alone", status=503, outputs=None),
    ])  # fmt: skip
    telemetry.close()
    log.close()
    by_trace = {}
    for span in spans:
        by_trace.setdefault(span.trace_id.hex(), {})[span.name] = span
    assert len(by_trace) == 2
    traced = by_trace.pop(TRACE)
    assert set(traced) == {"predict e", "receive", "queue", "predict", "log"}
    root = traced["predict e"]
    assert root.parent_span_id.hex() == SPAN
    assert all(traced[name].parent_span_id == root.span_id for name in ("receive", "queue", "predict", "log"))
    assert traced["predict"].end_time_unix_nano - traced["predict"].start_time_unix_nano == 4_000_000
    assert traced["queue"].end_time_unix_nano == traced["predict"].start_time_unix_nano
    assert root.start_time_unix_nano == 1_000_000_000_000
    attributes = {one.key for one in root.attributes}
    assert "mainspring.model.version" in attributes
    assert "Ada" not in str(root)
    (alone,) = by_trace.values()
    assert alone["predict e"].status.code == 2
