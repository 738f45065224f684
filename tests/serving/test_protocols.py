"""Every protocol answers good requests, and refuses bad ones in its own shape."""

from __future__ import annotations

import gzip
import json
import zlib

import msgspec
import pytest

from mainspring.serving import read_records
from mainspring.serving.app import AppOptions

V1 = "/v1/models/flights:predict"
V2 = "/v2/models/flights/infer"
MLFLOW = "/invocations"
NAMES = ["carrier", "engine", "month", "distance", "temp"]


def _lists(rows):
    return [[row[name] for name in NAMES] for row in rows]


def _columns(rows):
    return {name: [row[name] for row in rows] for name in NAMES}


def _tensors(rows):
    kinds = {"carrier": "BYTES", "engine": "BYTES", "month": "INT64", "distance": "FP64", "temp": "FP64"}
    return [
        {"name": name, "shape": [len(rows), 1], "datatype": kinds[name], "data": [row[name] for row in rows]}
        for name in NAMES
    ]


@pytest.fixture
def expected(client, rows):
    return msgspec.json.decode(client.post(V1, {"instances": rows}).body)["predictions"]


def test_every_input_form_gives_the_same_predictions(client, rows, expected):
    shuffled = NAMES[::-1]
    split = {"columns": shuffled, "index": [0, 1, 2], "data": [[row[name] for name in shuffled] for row in rows]}
    bodies = [
        (V1, {"instances": _lists(rows)}),
        (V1, {"inputs": rows, "parameters": {"a": 1}}),
        (MLFLOW, {"dataframe_split": split, "params": {}}),
        (MLFLOW, {"dataframe_split": {"data": _lists(rows)}}),
        (MLFLOW, {"dataframe_records": rows}),
        (MLFLOW, {"instances": rows}),
        (MLFLOW, {"inputs": _columns(rows)}),
    ]
    assert len(expected) == 3
    for path, document in bodies:
        reply = client.post(path, document, content_type="application/json; charset=utf-8")
        assert (reply.status, msgspec.json.decode(reply.body)) == (200, {"predictions": expected})


def test_csv_is_read_by_the_types_of_the_signature(client, rows, expected):
    text = "\r\n".join([",".join(NAMES), *(",".join("" if v is None else str(v) for v in row) for row in _lists(rows))])
    reply = client.request("POST", MLFLOW, text.encode(), {"content-type": "text/csv"})
    assert msgspec.json.decode(reply.body) == {"predictions": expected}


def test_mlflow_takes_the_nan_its_own_client_sends(client, rows, expected):
    body = json.dumps({"dataframe_records": [row | {"temp": row["temp"] or float("nan")} for row in rows]}).encode()
    assert b"NaN" in body
    reply = client.request("POST", MLFLOW, body, {"content-type": "application/json"})
    assert msgspec.json.decode(reply.body) == {"predictions": expected}


def test_v2_answers_the_request_id_and_the_version(client, rows, expected):
    reply = client.post(V2, {"id": "my-1", "inputs": _tensors(rows)})
    document = msgspec.json.decode(reply.body)
    assert document == {
        "model_name": "flights",
        "model_version": "1",
        "id": "my-1",
        "outputs": [{"name": "predict", "shape": [3], "datatype": "FP64", "data": expected}],
    }
    assert dict(reply.headers)[b"x-request-id"] == b"my-1"


def test_v2_serves_versions_by_path(make_client, rows):
    client = make_client(champion=(100, False, "1"), canary=(0, False, "2"))
    answers = {
        version: msgspec.json.decode(
            client.post(f"/v2/models/flights/versions/{version}/infer", {"inputs": _tensors(rows)}).body
        )
        for version in ("1", "2", "3")
    }
    assert [answers[version].get("model_version") for version in ("1", "2", "3")] == ["1", "2", None]
    assert answers["1"]["outputs"] != answers["2"]["outputs"]
    assert "error" in answers["3"]


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_are_read(client, rows, expected, encoding, compress):
    body = compress(msgspec.json.encode({"instances": rows}))
    reply = client.request("POST", V1, body, {"content-encoding": encoding})
    assert msgspec.json.decode(reply.body) == {"predictions": expected}


def test_describing_routes_answer_json(client):
    documents = {path: client.get(path) for path in ("/v2", "/v2/models/flights", "/v2/models/flights/versions/1")}
    assert {reply.status for reply in documents.values()} == {200}
    metadata = msgspec.json.decode(documents["/v2/models/flights"].body)
    assert metadata["inputs"][0] == {"name": "carrier", "datatype": "BYTES", "shape": [-1]}
    assert msgspec.json.decode(client.get("/v2/health/ready").body) == {"ready": True, "revision": 1}
    assert msgspec.json.decode(client.get("/v2/health/live").body) == {"live": True}
    assert msgspec.json.decode(client.get("/v1/models/flights").body) == {"name": "flights", "ready": True}
    assert msgspec.json.decode(client.request("POST", "/v2/repository/index").body)[0]["state"] == "READY"
    assert client.get("/ping").status == client.get("/health").status == client.get("/version").status == 200
    assert msgspec.json.decode(client.get("/v1/endpoints/flights").body)["variants"][0]["name"] == "champion"


def test_vertex_routes_are_taken_from_the_options(make_client, rows, expected):
    client = make_client(AppOptions(predict_route="/predict", health_route="/alive"))
    assert msgspec.json.decode(client.post("/predict", {"instances": rows}).body) == {"predictions": expected}
    assert client.get("/alive").status == 200


GOOD = {"carrier": "UA", "engine": "jet", "month": 1, "distance": 1400.0, "temp": 39.0}


def _v2(**changes: object) -> bytes:
    tensors = _tensors([GOOD])
    tensors[3] |= changes
    return json.dumps({"inputs": tensors}).encode()


def _raw(text: str) -> bytes:
    return json.dumps({"instances": [GOOD | {"distance": "@"}]}).replace('"@"', text).encode()


BAD = {
    "malformed": (V1, b"{", "JSON"),
    "empty": (V1, b"", "JSON"),
    "null": (V1, b"null", "object"),
    "list": (V1, b"[]", "object"),
    "nothing in it": (V1, b"{}", "instances"),
    "invalid utf-8": (V1, b'{"instances": ["\xff"]}', "UTF-8"),
    "utf-16": (V1, '{"instances": []}'.encode("utf-16"), "JSON"),
    "bom": (V1, b"\xef\xbb\xbf{}", "JSON"),
    "nan": (V1, _raw("NaN"), "null for a missing value"),
    "infinity": (V1, _raw("-Infinity"), "JSON"),
    "1e999": (V1, _raw("1e999"), "range"),
    "huge integer": (V1, _raw("9" * 500), "column 'distance'"),
    "numeric string": (V1, _raw('"1.5"'), "column 'distance': expected a number, got '1.5'"),
    "boolean": (V1, _raw("true"), "column 'distance': expected a number, got true"),
    "object": (V1, _raw("{}"), "got an object"),
    "lone surrogate": (V1, json.dumps({"instances": [GOOD | {"carrier": "\ud800"}]}).encode(), ""),
    "missing column": (V1, json.dumps({"instances": [{"month": 1}]}).encode(), "column 'carrier' is missing"),
    "unknown column": (V1, json.dumps({"instances": [GOOD | {"zzz": 1}]}).encode(), "'zzz' is not in the signature"),
    "ragged": (V1, json.dumps({"instances": [[1, 2]]}).encode(), "row 0 has 2 values, expected 5"),
    "zero rows": (V1, b'{"instances": []}', "no rows"),
    "nested": (V1, b'{"instances": ' + b"[" * 100_000, "nested too deeply"),
    "null where not allowed": (V1, json.dumps({"instances": [GOOD | {"month": None}]}).encode(), "got null in row 0"),
    "a key twice": (V1, b'{"instances": [[1]], "instances": [[2]]}', "twice"),
    "a column twice": (V1, _raw('1, "distance": 2'), "'distance' is given twice"),
    "v2 a key twice": (V2, b'{"inputs": [{"name":"a","name":"b","shape":[1],"datatype":"FP64","data":[1]}]}', "twice"),
    "v2 many inputs": (
        V2,
        json.dumps(
            {"inputs": [{"name": f"n{n}", "shape": [1], "datatype": "FP64", "data": [1]} for n in range(10_001)]}
        ).encode(),
        "too many inputs",
    ),
    "v2 many outputs": (
        V2,
        json.dumps({"inputs": _tensors([GOOD]), "outputs": [{"name": f"n{n}"} for n in range(101)]}).encode(),
        "too many outputs",
    ),
    "v2 timeout": (V2, json.dumps({"inputs": _tensors([GOOD]), "parameters": {"timeout": -1}}).encode(), "timeout"),
    "mlflow a key twice": (MLFLOW, b'{"inputs": {"a": [1]}, "inputs": {"a": [2]}}', "twice"),
    "mlflow a column twice": (MLFLOW, b'{"dataframe_records": [{"month": 1, "month": 2}]}', "twice"),
    "mlflow records of lists": (MLFLOW, b'{"dataframe_records": [[1]]}', "objects"),
    "mlflow params": (MLFLOW, b'{"instances": [[1]], "params": 3}', "params"),
    "v2 nested": (V2, b"[" * 100_000, ""),
    "v2 no inputs": (V2, b'{"inputs": []}', "no inputs"),
    "v2 shape product": (V2, _v2(shape=[2]), "shape [2] needs 2"),
    "v2 huge shape": (V2, _v2(shape=[2**60, 2**60]), "needs"),
    "v2 negative shape": (V2, _v2(shape=[-1, -1]), "negative"),
    "v2 shape of strings": (V2, _v2(shape=["1"]), "shape"),
    "v2 three dimensions": (V2, _v2(shape=[1, 1, 1]), "one tensor per column"),
    "v2 too many dimensions": (V2, _v2(shape=[1] * 40), "the shape must"),
    "v2 no dimension": (V2, _v2(shape=[]), "the shape must"),
    "v2 wide column": (V2, _v2(shape=[1, 2], data=[1, 2]), "one tensor per column"),
    "v2 lossy integer": (V2, _v2(datatype="INT64", data=[1.5]), "expected INT64, got 1.5"),
    "v2 uint8 too big": (V2, _v2(datatype="UINT8", data=[300]), "does not fit UINT8"),
    "v2 text for a float": (V2, _v2(datatype="BYTES", data=["1"]), "column 'distance': expected a number"),
    "v2 unknown datatype": (V2, _v2(datatype="FLOAT"), "unknown datatype"),
    "v2 fp16": (V2, _v2(datatype="FP16"), "FP16 has no JSON form"),
    "v2 ragged": (V2, _v2(data=[[1], [2, 3]]), "ragged"),
    "v2 nan": (V2, _v2(data=[float("nan")]), "JSON"),
    "v2 twice": (V2, json.dumps({"inputs": [_tensors([GOOD])[0]] * 2}).encode(), "twice"),
    "v2 unknown output": (
        V2,
        json.dumps({"inputs": _tensors([GOOD]), "outputs": [{"name": "x"}]}).encode(),
        "no output",
    ),
    "v2 matrix of mixed columns": (
        V2,
        b'{"inputs":[{"name":"x","shape":[1,5],"datatype":"FP64","data":[1,2,3,4,5]}]}',
        "one tensor per column",
    ),
    "v2 rows differ": (V2, json.dumps({"inputs": [*_tensors([GOOD])[:4], *_tensors([GOOD] * 2)[4:]]}).encode(), "rows"),
    "mlflow two forms": (MLFLOW, b'{"instances": [], "inputs": []}', "exactly one"),
    "mlflow no form": (MLFLOW, b'{"messages": []}', "exactly one"),
    "mlflow split extra": (MLFLOW, b'{"dataframe_split": {"data": [], "zzz": 1}}', "zzz"),
    "mlflow split twice": (MLFLOW, b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}', "twice"),
    "mlflow split ragged": (MLFLOW, b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "row 0"),
    "mlflow split scalar": (MLFLOW, b'{"dataframe_split": 3}', "DataFrame"),
    "mlflow records scalar": (MLFLOW, b'{"dataframe_records": 3}', "list of rows"),
    "mlflow matrix": (MLFLOW, b'{"inputs": [[1, 2]]}', "per column"),
    "mlflow extra key": (MLFLOW, b'{"instances": [], "more": 1}', "params"),
    "mlflow nan": (
        MLFLOW,
        b'{"instances": [{"month": NaN, "distance": Infinity}]}',
        "column 'month': expected a whole number, got NaN",
    ),
    "mlflow nan and surrogate": (MLFLOW, b'{"instances": [{"month": NaN, "carrier": "\\ud800"}]}', "Unicode"),
    "mlflow nan and nested": (MLFLOW, b'{"NaN": ' + b"[" * 100_000, ""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_a_400_in_the_protocols_shape_that_says_what_is_wrong(client, case):
    path, body, words = BAD[case]
    reply = client.request("POST", path, body)
    document = msgspec.json.decode(reply.body)
    message = document["message"] if path == MLFLOW else document["error"]
    assert reply.status == 400
    assert words in message
    assert document.keys() == ({"error_code", "message"} if path == MLFLOW else {"error"})
    assert len(reply.body) < 3000


def test_bad_input_is_logged_with_what_was_wrong(client, tmp_path):
    reply = client.post(V1, {"instances": [GOOD | {"distance": "far"}]}, x_request_id="mine")
    (record,) = read_records(tmp_path / "predictions", 0, 2**60)
    assert dict(reply.headers)[b"x-request-id"] == b"mine"
    assert (record.id, record.status, record.outputs) == ("mine", 400, None)
    assert record.validation_errors == ["column 'distance': expected a number, got 'far' in row 0"]
    assert record.inputs is not None
    assert record.inputs["distance"] == ["far"]


def test_the_inputs_of_a_large_refused_request_are_not_logged(client, tmp_path):
    client.post(V1, {"instances": [GOOD | {"distance": "far" * 40_000}]})
    (record,) = read_records(tmp_path / "predictions", 0, 2**60)
    assert record.inputs is None
    assert len(record.validation_errors[0]) < 200


def test_a_bomb_is_not_inflated(client):
    reply = client.request("POST", V1, gzip.compress(b" " * (64 << 20)), {"content-encoding": "gzip"})
    assert reply.status == 413


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b"{}", mtime=0)[:-3], gzip.compress(b"{}", mtime=0) + b"x"],
    ids=["not-gzip", "cut-off", "with-a-tail"],
)
def test_damaged_compression_is_a_400(client, body):
    assert client.request("POST", V1, body, {"content-encoding": "gzip"}).status == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=latin-1", "application/x-pickle"])
def test_invocations_refuses_other_content_types(client, kind):
    reply = client.request("POST", MLFLOW, b"{}", {"content-type": kind})
    assert (reply.status, reply.content_type) == (415, b"text/plain; charset=utf-8")


def test_unknown_models_routes_and_methods_are_4xx(client):
    assert client.post("/v1/models/other:predict", {}).status == 404
    assert client.post("/v2/models/other/infer", {}).status == 404
    assert client.get("/v2/models/other").status == 404
    assert client.get("/v2/models/flights/versions/9").status == 404
    assert client.get("/nothing").status == 404
    assert client.get(V1).status == 405
    assert client.request("POST", "/v2").status == 405


def _binary(
    data: bytes, size: object, header: str | None = None, datatype: str = "FP64"
) -> tuple[bytes, dict[str, str]]:
    tensors = _tensors([GOOD])
    tensors[3] = {"name": "distance", "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": tensors}).encode()
    return head + data, {"inference-header-content-length": header or str(len(head))}


def test_a_binary_tensor_may_hold_nan_where_a_value_may_be_missing(client):
    body, headers = _binary(b"\x00\x00\x00\x00\x00\x00\xf8\x7f", 8)
    assert client.request("POST", V2, body, headers).status == 200


@pytest.mark.parametrize(
    ("data", "size", "header", "datatype"),
    [
        (b"\0" * 8, 8, "-1", "FP64"),
        (b"\0" * 8, 8, "999999", "FP64"),
        (b"\0" * 8, 8, "ten", "FP64"),
        (b"\0" * 8, 8, "0", "FP64"),
        (b"\0" * 8, 8, "1" * 5000, "FP64"),
        (b"\0" * 8, 9, None, "FP64"),
        (b"\0" * 8, -8, None, "FP64"),
        (b"\0" * 8, "8", None, "FP64"),
        (b"\0" * 8, True, None, "FP64"),
        (b"\0" * 4, 4, None, "FP64"),
        (b"\0" * 9, 8, None, "FP64"),
        (b"\0\0\0\0\0\0\xf0\x7f", 8, None, "FP64"),
        (b"\xff\0\0\0ab", 6, None, "BYTES"),
        (b"\1\0\0", 3, None, "BYTES"),
        (b"\1\0\0\0\xff", 5, None, "BYTES"),
        (b"\2", 1, None, "BOOL"),
    ],
)
def test_bad_binary_tensors_are_refused(client, data, size, header, datatype):
    body, headers = _binary(data, size, header, datatype)
    reply = client.request("POST", V2, body, headers)
    assert reply.status == 400
    assert "error" in msgspec.json.decode(reply.body)


def test_a_token_is_needed_once_there_is_one(make_client, rows):
    client = make_client(AppOptions(token="secret"))
    assert client.post(V1, {"instances": rows}).status == 401
    assert client.post(MLFLOW, {"instances": rows}, authorization="Bearer wrong").status == 401
    assert client.get("/metrics").status == 401
    assert client.get("/v2/health/ready").status == 200
    assert list(read_records(client.endpoint.folder / "predictions", 0, 2**60)) == []
    assert client.post(V1, {"instances": rows}, authorization="Bearer secret").status == 200


def test_an_explanation_adds_up_and_says_of_what(client, rows):
    reply = client.post("/v1/models/flights:explain", {"instances": rows})
    assert reply.status == 200
    found = msgspec.json.decode(reply.body)["explanations"]
    assert len(found["contributions"]) == 3
    assert client.get("/v1/models/flights:explain").status == 405
    assert client.post("/v1/models/other:explain", {"instances": rows}).status == 404
    assert client.post("/v1/models/flights:explain", {"instances": [{"month": "x"}]}).status == 400


def test_mlflows_deployments_client_finds_its_routes(client, rows, expected):
    assert msgspec.json.decode(client.get("/api/2.0/endpoints/flights").body)["name"] == "flights"
    assert client.get("/api/2.0/endpoints/other").status == 404
    reply = client.post("/endpoints/flights/invocations", {"instances": rows})
    assert msgspec.json.decode(reply.body) == {"predictions": expected}


def test_parquet_is_read_and_a_bomb_of_it_is_not(client, rows, expected):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = {"content-type": "application/vnd.apache.parquet"}
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table)
    reply = client.request("POST", MLFLOW, table.getvalue(), kind)
    assert msgspec.json.decode(reply.body) == {"predictions": expected}
    bomb = io.BytesIO()
    pq.write_table(pa.table({"distance": pa.nulls(6_000_000, pa.float64())}), bomb)
    assert len(bomb.getvalue()) < 100_000
    assert client.request("POST", MLFLOW, bomb.getvalue(), kind).status == 413
    assert client.request("POST", MLFLOW, table.getvalue()[:-9], kind).status == 400


def test_a_raw_tensor_is_not_read_for_a_model_of_mixed_columns(client):
    headers = {"inference-header-content-length": "0"}
    assert client.request("POST", V2, b"\0" * 40, headers).status == 400


def test_outputs_are_answered_in_json_or_bytes_as_each_was_asked_for(client, rows, expected):
    import struct

    document = {"inputs": _tensors(rows), "outputs": [{"name": "predict", "parameters": {"binary_data": True}}]}
    reply = client.post(V2, document)
    size = int(dict(reply.headers)[b"inference-header-content-length"])
    head = msgspec.json.decode(reply.body[:size])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 24}
    assert list(struct.unpack("<3d", reply.body[size:])) == expected
    reply = client.post(
        V2, {"inputs": _tensors(rows), "parameters": {"binary_data_output": True, "content_type": "pd"}}
    )
    assert reply.content_type == b"application/octet-stream"


def test_the_repository_index_may_be_asked_for_ready_models_only(client):
    assert len(msgspec.json.decode(client.request("POST", "/v2/repository/index", b'{"ready":true}').body)) == 1
    client.endpoint.is_draining = True
    assert msgspec.json.decode(client.request("POST", "/v2/repository/index", b'{"ready":true}').body) == []
    assert client.request("POST", "/v2/repository/index", b'{"ready":3}').status == 400
