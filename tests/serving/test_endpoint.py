"""Traffic, shadows, labels, metrics and swaps."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from mainspring.core import Unavailable
from mainspring.serving import find_records, read_deployment, read_labels, read_records, write_deployment
from mainspring.serving.calls import Call
from mainspring.serving.endpoint import EndpointOptions
from mainspring.serving.log import SegmentLog
from mainspring.serving.prediction_log import LogPolicy
from mainspring.serving.protocols import v1
from mainspring.serving.shadows import MAX_SHADOWS
from mainspring.serving.tracing import span_of

PREDICT = "/v1/models/flights:predict"


def _variant(reply):
    return dict(reply.headers)[b"x-variant"].decode()


def test_an_answer_is_in_the_log_with_what_made_it(client, tmp_path, rows, clock):
    reply = client.post(PREDICT, {"instances": rows}, x_request_id="r-1")
    (record,) = read_records(tmp_path / "predictions", 0, 2**60)
    headers = dict(reply.headers)
    assert (record.id, record.received_at, record.status, record.rows) == ("r-1", clock.now_ms(), 200, 3)
    assert (record.endpoint, record.revision, record.variant, record.shadow) == ("flights", 1, "champion", False)
    assert (record.model, record.version, record.protocol) == ("flights-delay", "1", "v1")
    assert (headers[b"x-model-version"], headers[b"x-model-digest"]) == (b"1", record.digest.encode())
    assert record.inputs == {name: [row[name] for row in rows] for name in rows[0]}
    assert record.outputs == msgspec.json.decode(reply.body)["predictions"]


def test_requests_without_a_usable_id_get_one_of_ours(client, rows):
    replies = [
        client.post(PREDICT, {"instances": rows}, x_request_id=bad) for bad in ("", "a b", "x" * 65, "a\tb", "a:0")
    ]
    ids = [dict(reply.headers)[b"x-request-id"] for reply in replies]
    assert len(set(ids)) == 5
    assert {len(one) for one in ids} == {26}


def test_traffic_is_split_by_weight_and_a_key_sticks(make_client, rows):
    client = make_client(champion=(80, False, "1"), canary=(20, False, "2"))
    count = Counter(_variant(client.post(PREDICT, {"instances": rows[:1]})) for _ in range(400))
    assert 40 <= count["canary"] <= 125
    keyed = {_variant(client.post(PREDICT, {"instances": rows[:1]}, x_split_key="customer-7")) for _ in range(20)}
    assert len(keyed) == 1


def test_mirrors_predict_after_the_answer_and_are_logged_as_shadows(make_client, tmp_path, rows):
    client = make_client(champion=(100, True, "1"), baseline=(0, True, "2"), idle=(0, False, "2"))
    client.post(PREDICT, {"instances": rows}, x_request_id="r")
    records = find_records(tmp_path / "predictions", "r")
    assert [(record.variant, record.shadow, record.rows) for record in records] == [
        ("champion", False, 3),
        ("baseline", True, 3),
    ]
    assert records[0].inputs == records[1].inputs
    assert records[0].outputs != records[1].outputs


def test_shadows_that_do_not_fit_the_queue_are_dropped_and_counted(make_client, rows):
    client = make_client(champion=(100, True, "1"), baseline=(0, True, "2"))
    endpoint = client.endpoint

    async def flood():
        for _ in range(MAX_SHADOWS + 3):
            call = Call(v1.WIRE, lambda reply: None, received_at=endpoint.clock.now_ms())
            call.router = endpoint.require_router()
            call.variant = call.router.choose("")
            call.parsed = v1.parse(msgspec.json.encode({"instances": rows}), {})
            endpoint._shadows.add(call)

    client.run(flood())
    assert b'mainspring_shadow_dropped_total{endpoint="flights"} 3.0' in endpoint.metrics.render()


def test_labels_are_in_the_log_before_they_are_acknowledged(client, tmp_path):
    labels = [{"id": "r:0", "label": 1, "time": 5}, {"id": "r:1", "label": 0.5, "time": 6}]
    reply = client.post("/v1/endpoints/flights/labels", {"labels": labels})
    assert (reply.status, msgspec.json.decode(reply.body)) == (200, {"accepted": 2})
    assert [(label.id, label.label, label.time) for label in read_labels(tmp_path / "labels")] == [
        ("r:0", 1, 5),
        ("r:1", 0.5, 6),
    ]


def test_bad_labels_are_named_by_their_index_and_none_is_kept(client, tmp_path):
    good = {"id": "r:0", "label": 1, "time": 5}
    bad = [good | {"id": "r"}, good | {"label": "x"}, good | {"label": True}, good | {"time": 1.5}, {"id": "r:0"}]
    reply = client.post("/v1/endpoints/flights/labels", {"labels": [good, *bad]})
    error = msgspec.json.decode(reply.body)["error"]
    assert reply.status == 400
    assert [f"label {index}:" in error for index in range(6)] == [False, True, True, True, True, True]
    assert list(read_labels(tmp_path / "labels")) == []


@pytest.mark.parametrize("header", [{"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}])
def test_labels_from_a_web_page_are_refused(client, tmp_path, header):
    labels = [{"id": "r:0", "label": 1, "time": 5}]
    reply = client.post("/v1/endpoints/flights/labels", {"labels": labels}, **header)
    assert reply.status == 401
    assert list(read_labels(tmp_path / "labels")) == []


def test_metrics_count_requests_rows_and_refusals_with_bounded_labels(client, rows):
    client.post(PREDICT, {"instances": rows})
    client.post(PREDICT, {"instances": []})
    for number in range(50):
        client.post(f"/v1/models/other-{number}:predict", {})
    text = client.get("/metrics").body.decode()
    labels = 'endpoint="flights",variant="champion",version="1"'
    assert f'mainspring_requests_total{{code="200",{labels}}} 1.0' in text
    assert f'mainspring_requests_total{{code="400",{labels}}} 1.0' in text
    assert f"mainspring_rows_total{{{labels}}} 3.0" in text
    assert "mainspring_request_seconds_bucket" in text
    assert "mainspring_prediction_log_bytes_total" in text
    assert "other-" not in text


def test_a_request_that_cannot_be_logged_is_not_answered(client, rows, monkeypatch):
    def refuse(self, records):
        raise Unavailable("The log cannot be written.")

    monkeypatch.setattr(SegmentLog, "append", refuse)
    reply = client.post(PREDICT, {"instances": rows})
    assert reply.status == 503
    assert b"mainspring_prediction_log_failures_total" in client.get("/metrics").body


def test_a_model_that_fails_is_a_503_in_shape_without_its_reason(client, rows, tmp_path, monkeypatch):
    def fail(self, matrix):
        raise RuntimeError("secret path")

    monkeypatch.setattr("mainspring.serving.lightgbm.Booster.predict", fail)
    reply = client.post(PREDICT, {"instances": rows})
    assert reply.status == 503
    assert b"secret" not in reply.body
    assert [record.status for record in read_records(tmp_path / "predictions", 0, 2**60)] == [503]


def test_a_deployment_that_cannot_be_loaded_leaves_the_old_one_answering(client, tmp_path, rows):
    deployment = read_deployment(tmp_path / "deployment.json")
    digest = "sha256:" + "0" * 64
    variant = deployment.variants[0]
    changed = msgspec.structs.replace(variant, model=msgspec.structs.replace(variant.model, digest=digest))
    write_deployment(tmp_path / "deployment.json", msgspec.structs.replace(deployment, revision=2, variants=[changed]))
    client.endpoint.reload()
    status = msgspec.json.decode(client.get("/v1/endpoints/flights").body)
    assert (status["ready"], status["revision"]) == (True, 1)
    assert "digest" in status["error"]
    assert client.post(PREDICT, {"instances": rows}).status == 200
    assert b'mainspring_deployment_error{endpoint="flights"} 1.0' in client.get("/metrics").body


def test_models_that_stay_are_not_loaded_again(client, tmp_path, deploy):
    before = client.endpoint.require_router().variants[0].model
    deploy(tmp_path, 2, champion=(100, False, "1"), canary=(0, True, "2"))
    client.endpoint.reload()
    router = client.endpoint.require_router()
    assert router.deployment.revision == 2
    assert router.variants[0].model is before


def test_the_status_says_that_records_are_being_dropped(make_client, rows, monkeypatch):
    client = make_client(settings=EndpointOptions(policy=LogPolicy(on_full="drop")))

    def refuse(self, records):
        raise Unavailable("The log cannot be written.")

    monkeypatch.setattr(SegmentLog, "append", refuse)
    assert client.post(PREDICT, {"instances": rows}).status == 200
    assert msgspec.json.decode(client.get("/v1/endpoints/flights").body)["log"] == {"is_dropping": True, "dropped": 1}


def test_a_traced_request_is_answered_with_its_trace_and_the_span_it_became(client, rows):
    trace = "0af7651916cd43dd8448eb211c80319c"
    given = {"instances": rows}
    reply = client.post(PREDICT, given, traceparent=f"00-{trace}-b7ad6b7169203331-01", x_request_id="traced")
    assert dict(reply.headers)[b"traceparent"] == f"00-{trace}-{span_of('traced')}-01".encode()
    assert b"traceparent" not in dict(client.post(PREDICT, given).headers)
