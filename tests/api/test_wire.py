"""MLflow's wire quirks, on the wire."""

from __future__ import annotations

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
    assert model["description"] == ""
    assert "aliases" not in model


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
        ("POST", "runs/log-batch", {"run_id": "x", "metrics": [{"key": "m"}]}, 400, "INVALID_PARAMETER_VALUE", "'value'"),  # noqa: E501
        ("POST", "runs/log-batch", [], 400, "INVALID_PARAMETER_VALUE", "parameter"),
        ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 50001}, 400, "INVALID_PARAMETER_VALUE", "max_results"),  # noqa: E501
        ("POST", "runs/search", {"experiment_ids": ["0"], "filter": "a or b"}, 400, "INVALID_PARAMETER_VALUE", "comparator"),  # noqa: E501
        ("POST", "runs/search", {"experiment_ids": ["0"], "run_view_type": "X"}, 400, "INVALID_PARAMETER_VALUE", "view"),  # noqa: E501
        ("POST", "model-versions/transition-stage", {"name": "a", "version": "1"}, 501, "NOT_IMPLEMENTED", "aliases"),
        ("POST", "traces", {}, 404, "ENDPOINT_NOT_FOUND", "GenAI"),
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
        "tags": [{"key": "t", "value": "x" * 8001}],
    }
    assert server.mlflow("POST", "runs/log-batch", body)[0] == 400
    assert "metrics" not in server.mlflow("GET", f"runs/get?run_id={run_id}")[1]["run"]["data"]


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
