"""MLflow's wire quirks, on the wire."""

from __future__ import annotations

import http.client
import os
import uuid

import pytest


def log(server, run_id: str, raw: str):
    return server.mlflow("POST", "runs/log-metric", raw=raw.replace("RUN", run_id).encode())


@pytest.mark.parametrize(
    ("value", "answered"),
    [
        ("NaN", "NaN"),
        ('"NaN"', "NaN"),
        ("Infinity", 1.7976931348623157e308),
        ('"-Infinity"', -1.7976931348623157e308),
        ("1", 1.0),
    ],
)
def test_special_numbers_come_as_tokens_or_strings_and_leave_as_mlflow_sends_them(server, value: str, answered) -> None:
    run_id = server.new_run()
    assert log(server, run_id, f'{{"run_id": "RUN", "key": "m", "value": {value}, "timestamp": 1}}') == (200, {})
    run = server.mlflow("GET", f"runs/get?run_id={run_id}")[1]["run"]
    assert run["data"]["metrics"] == [{"key": "m", "value": answered, "timestamp": 1, "step": 0}]


def test_integers_come_as_numbers_or_strings_and_leave_as_numbers(server) -> None:
    run_id = server.new_run()
    raw = '{"run_uuid": "RUN", "key": "m", "value": 1, "timestamp": "1700000000000", "step": "5"}'
    assert log(server, run_id, raw)[0] == 200
    (point,) = server.mlflow("GET", f"metrics/get-history?run_id={run_id}&metric_key=m")[1]["metrics"]
    assert (point["timestamp"], point["step"]) == (1_700_000_000_000, 5)


def test_unset_is_left_out_and_empty_lists_vanish(server) -> None:
    status, run = server.mlflow("POST", "runs/create", {"experiment_id": "0", "start_time": 5, "tags": None})
    info = run["run"]["info"]
    assert status == 200
    assert "end_time" not in info
    assert info["run_uuid"] == info["run_id"]
    assert "metrics" not in run["run"]["data"]
    assert server.mlflow("POST", "runs/search", {"experiment_ids": ["99"]}) == (200, {})
    assert server.mlflow("GET", "registered-models/search?filter=name='nobody'") == (200, {})


def test_empty_strings_stay(server) -> None:
    server.mlflow("POST", "registered-models/create", {"name": "empty"})
    model = server.mlflow("GET", "registered-models/get?name=empty")[1]["registered_model"]
    assert not {"description", "aliases", "tags", "latest_versions"} & set(model)
    made = server.mlflow("POST", "model-versions/create", {"name": "empty", "source": "s3://b/x"})[1]["model_version"]
    assert (made["description"], made["run_link"]) == ("", "")


def test_delete_and_patch_take_json_bodies(server) -> None:
    server.mlflow("POST", "registered-models/create", {"name": "verbs"})
    assert server.mlflow("PATCH", "registered-models/update", {"name": "verbs", "description": "d"})[0] == 200
    assert server.mlflow("DELETE", "registered-models/delete", {"name": "verbs"}) == (200, {})
    assert server.mlflow("GET", "registered-models/get?name=verbs")[1]["error_code"] == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "says"),
    [
        ("POST", "experiments/create", {}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'name'."),  # noqa: E501
        ("POST", "experiments/create", {"name": ""}, 400, "INVALID_PARAMETER_VALUE", "required parameter 'name'"),
        ("POST", "experiments/create", {"name": 5}, 400, "INVALID_PARAMETER_VALUE", "Invalid value 5 for parameter 'name'"),  # noqa: E501
        ("POST", "experiments/create", {"name": "Default"}, 400, "RESOURCE_ALREADY_EXISTS", "already exists"),
        ("GET", "experiments/get?experiment_id=99", None, 404, "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=99 exists"),  # noqa: E501
        ("GET", "runs/get?run_id=nope", None, 404, "RESOURCE_DOES_NOT_EXIST", "Run with id=nope not found"),
        ("GET", "runs/get", None, 400, "INVALID_PARAMETER_VALUE", "'run_id'"),
        ("POST", "runs/log-metric", {"run_id": "x", "key": "m", "value": 1, "timestamp": 1, "step": "foo"}, 400,
         "INVALID_PARAMETER_VALUE", "Invalid value \"foo\" for parameter 'step' supplied"),
        ("POST", "runs/log-metric", {"run_id": "x", "key": "m", "value": "foo", "timestamp": 1}, 400,
         "INVALID_PARAMETER_VALUE", "'value'"),
        ("POST", "runs/log-metric", {"run_id": "x", "key": "m", "value": 1, "timestamp": 2**63}, 400,
         "INVALID_PARAMETER_VALUE", "'timestamp'"),
        ("POST", "runs/log-batch", {"run_id": "x", "metrics": [{"key": "m"}]}, 400, "INVALID_PARAMETER_VALUE", "'metrics[0].value'"),  # noqa: E501
        ("POST", "runs/log-batch", [], 400, "INVALID_PARAMETER_VALUE", "parameter"),
        ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 50001}, 400, "INVALID_PARAMETER_VALUE", "max_results"),  # noqa: E501
        ("POST", "runs/search", {"experiment_ids": ["0"], "filter": "a or b"}, 400, "INVALID_PARAMETER_VALUE", "comparator"),  # noqa: E501
        ("POST", "runs/search", {"experiment_ids": ["0"], "run_view_type": "X"}, 400, "INVALID_PARAMETER_VALUE", "view"),  # noqa: E501
        ("POST", "model-versions/transition-stage", {"name": "a", "version": "1"}, 400, "INVALID_PARAMETER_VALUE", "'stage'"),  # noqa: E501
        ("POST", "traces", {}, 400, "FEATURE_DISABLED", "not supported here"),
        ("GET", "nonsense", None, 404, "ENDPOINT_NOT_FOUND", "nonsense"),
        ("GET", "runs/create", None, 404, "ENDPOINT_NOT_FOUND", "runs/create"),
    ],
)  # fmt: skip
def test_error_shape(server, method, path, body, status, code, says) -> None:
    found, answer = server.mlflow(method, path, body)
    assert (found, answer["error_code"]) == (status, code)
    assert says in answer["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[" * 200_000,
        b'{"run_id": "\xff"}',
        b"null",
        b'{"run_id": "\\ud800", "key": "k", "value": "v"}',
        b'"x"',
        b"\x00",
    ],
)
def test_broken_json_is_a_400(server, raw: bytes) -> None:
    status, answer = server.mlflow("POST", "runs/set-tag", raw=raw)
    assert status in (400, 404)
    assert answer["error_code"] in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("key", "value"), [("k", "\0"), ("k", "\ud800"), ("k", "x" * 8001), ("../k", "v"), ("k" * 251, "v"), ("", "v")]
)
def test_tag_that_cannot_be_kept_is_a_400(server, key: str, value: str) -> None:
    status, answer = server.mlflow("POST", "runs/set-tag", {"run_id": server.new_run(), "key": key, "value": value})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_batch_limits(server) -> None:
    run_id = server.new_run()
    metric = {"key": "m", "value": 1, "timestamp": 1}
    for body in (
        {"metrics": [metric] * 1001},
        {"params": [{"key": f"p{number}", "value": ""} for number in range(101)]},
        {"metrics": [metric] * 950, "params": [{"key": f"p{number}", "value": ""} for number in range(51)]},
    ):
        status, answer = server.mlflow("POST", "runs/log-batch", {"run_id": run_id, **body})
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    big = {"run_id": run_id, "tags": [{"key": "t", "value": "x" * 1_000_000}]}
    assert server.mlflow("POST", "runs/log-batch", big)[0] == 413
    assert "metrics" not in server.mlflow("GET", f"runs/get?run_id={run_id}")[1]["run"]["data"]


def test_a_batch_is_all_or_nothing(server) -> None:
    run_id = server.new_run()
    body = {
        "run_id": run_id,
        "metrics": [{"key": "m", "value": 1, "timestamp": 1}],
        "tags": [{"key": "t$", "value": "x"}],
    }
    assert server.mlflow("POST", "runs/log-batch", body)[0] == 400
    assert "metrics" not in server.mlflow("GET", f"runs/get?run_id={run_id}")[1]["run"]["data"]


def test_a_download_whose_bytes_go_missing_is_cut_off(own_server) -> None:
    """The client must see an error: the connection closes before the promised length was sent."""
    own_server.start()
    size, path = 32 << 20, "/api/2.0/mlflow-artifacts/artifacts/big.bin"
    assert own_server.call("PUT", path, raw=bytes(size))[0] == 200
    blobs = (own_server.folder / ".mainspring" / "blobs").rglob("*")
    blob = max((file for file in blobs if file.is_file()), key=lambda file: file.stat().st_size)
    connection = http.client.HTTPConnection(own_server.url.removeprefix("http://"), timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, answer.length) == (200, size)
    blob.chmod(0o600)
    os.truncate(blob, size // 2)  # while the server waits for its slow client
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


def test_history_is_paged_on_request(server) -> None:
    run_id = server.new_run()
    metrics = [{"key": "m", "value": step, "timestamp": step, "step": step} for step in range(5)]
    server.mlflow("POST", "runs/log-batch", {"run_id": run_id, "metrics": metrics})
    seen, token = [], ""
    while True:
        page = server.mlflow(
            "GET", f"metrics/get-history?run_id={run_id}&metric_key=m&max_results=2&page_token={token}"
        )[1]
        seen += [point["step"] for point in page["metrics"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert seen == [0, 1, 2, 3, 4]


def test_probes(server) -> None:
    assert server.call("GET", "/health")[2] == b"OK"
    assert server.call("GET", "/version")[0] == 200
    info = server.call("GET", "/api/3.0/mlflow/server-info")[2]
    assert info["multipart_uploads_enabled"] is False
    status, _, text = server.call("GET", "/metrics")
    assert status == 200
    assert b'mainspring_http_requests_total{code="200",method="GET",route="/health"}' in text
    assert b'route="/api/2.0/mlflow/runs/create"' in text


def test_a_field_that_is_null_is_not_set(server) -> None:
    run_id = server.new_run()
    log_metric = {"run_id": run_id, "run_uuid": None, "key": "m", "value": 1, "timestamp": 1, "step": None}
    assert server.mlflow("POST", "runs/log-metric", log_metric) == (200, {})
    for name in ("run_id", "key", "value", "timestamp"):
        status, answer = server.mlflow("POST", "runs/log-metric", {**log_metric, name: None})
        assert (status, f"Missing value for required parameter '{name}'" in answer["message"]) == (400, True)
    batch = {"run_id": run_id, "metrics": None, "tags": [{"key": "t", "value": None}]}
    assert server.mlflow("POST", "runs/log-batch", batch) == (200, {})
    assert server.mlflow("POST", "runs/log-batch", {"run_id": run_id, "tags": [None]})[0] == 400
    deep = b'{"run_id": "x", "tags": ' + b"[" * 600 + b"]" * 600 + b"}"
    assert server.mlflow("POST", "runs/log-batch", raw=deep)[0] == 400


def test_slashes_before_the_path_count_as_one(server) -> None:
    assert server.call("GET", "//health")[0] == 200
    status, _, answer = server.call("GET", "//api/2.0/mlflow/runs/get?run_id=none")
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_long_query_is_read_and_then_told_its_limit(server) -> None:
    many = "&".join(f"run_id=r{number}" for number in range(1500))
    status, answer = server.mlflow("GET", f"metrics/get-history-bulk?metric_key=m&{many}")
    assert (status, answer["message"]) == (
        400, "GetMetricHistoryBulk request cannot specify more than 100 run_ids. Received 1500 run_ids.",
    )  # fmt: skip


def test_a_run_can_be_given_its_id_and_is_made_once(server) -> None:
    id = uuid.uuid4().hex
    body = {"experiment_id": "0", "run_id": id, "run_name": "offline", "start_time": 5}
    first = server.mlflow("POST", "runs/create", body)[1]["run"]
    assert (first["info"]["run_id"], first["info"]["run_name"]) == (id, "offline")
    server.mlflow("POST", "runs/log-metric", {"run_id": id, "key": "m", "value": 1, "timestamp": 1})
    again = server.mlflow("POST", "runs/create", {**body, "run_name": "another"})[1]["run"]
    assert (again["info"]["run_name"], again["data"]["metrics"][0]["key"]) == ("offline", "m")
    other = server.mlflow("POST", "experiments/create", {"name": f"other-{id}"})[1]["experiment_id"]
    status, answer = server.mlflow("POST", "runs/create", {**body, "experiment_id": other})
    assert (status, answer["error_code"]) == (400, "RESOURCE_ALREADY_EXISTS")
    for wrong in ("x", id.upper().replace("0", "F") + "A", "../" + id[3:]):
        assert server.mlflow("POST", "runs/create", {**body, "run_id": wrong})[0] == 400
    server.mlflow("POST", "runs/delete", {"run_id": id})
    assert server.mlflow("POST", "runs/create", body)[0] == 400


def test_what_mlflow_refuses_is_refused(server) -> None:
    run_id = server.new_run()
    point = {"run_id": run_id, "key": "m", "value": 1}
    twice = [{"key": "d", "value": "1"}, {"key": "d", "value": "1"}]
    dataset = {"name": "n", "digest": "d", "source_type": "", "source": ""}
    for path, body, says in (
        ("runs/log-metric", {**point, "timestamp": -1}, "Invalid value -1 for parameter 'timestamp' supplied"),
        ("runs/log-batch", {"run_id": run_id, "params": twice}, "Duplicate parameter keys have been submitted: ['d']"),
        ("runs/delete-tag", {"run_id": run_id}, "Missing value for required parameter 'key'"),
        ("runs/create", {"experiment_id": "0", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]},
         "with different values (run_name='a', mlflow.runName='b')"),
        ("runs/log-inputs", {"run_id": run_id, "datasets": [{"dataset": dataset, "tags": [{"key": "k" * 256}]}]},
         "'key' exceeds the maximum length of 255 characters"),
    ):  # fmt: skip
        status, answer = server.mlflow("POST", path, body)
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), path
        assert says in answer["message"]
    server.mlflow("POST", "registered-models/create", {"name": "same"})
    assert server.mlflow("POST", "registered-models/rename", {"name": "same", "new_name": "same"})[0] == 200
