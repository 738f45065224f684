"""The wire itself: statuses, codes and messages of requests no client of today sends, but older ones and scripts do."""

# ruff: noqa: E501 - a table is read line by line
from __future__ import annotations

import json
from typing import Any

import pytest

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
INTERVAL = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"


@pytest.fixture(scope="module")
def run(server: Any) -> dict[str, Any]:
    """A run made without the client."""
    status, answer = server.call("POST", "runs/create", {"experiment_id": "0", "start_time": "5", "tags": []})
    assert status == 200
    return dict(answer["run"]["info"])


BAD = [
    ("POST", "experiments/create", {"name": 123}, "Invalid value 123 for parameter 'name' supplied"),
    ("POST", "experiments/create", {}, "Missing value for required parameter 'name'"),
    ("POST", "experiments/create", {"name": ""}, "Missing value for required parameter 'name'"),
    ("POST", "experiments/create", {"name": "x" * 501}, "'name' exceeds the maximum length of 500 characters"),
    ("POST", "experiments/create", {"name": "e", "artifact_location": 9.0}, "Invalid value 9.0 for parameter 'artifact_location'"),
    ("POST", "experiments/create", {"name": "e", "tags": "5"}, "Invalid value \"5\" for parameter 'tags'"),
    ("POST", "experiments/create", {"name": "e", "artifact_location": "s3://b/x#y"}, ""),
    ("POST", "experiments/create", {"name": "e", "artifact_location": "s3://b/x?y=.."}, ""),
    ("POST", "experiments/create", {"name": "e", "artifact_location": "runs:/x/y"}, ""),
    ("POST", "experiments/create", {"name": "e", "artifact_location": "http://169.254.169.254/x"}, ""),
    ("GET", "experiments/get?experiment_id=abc", None, "Invalid experiment ID 'abc'. Experiment ID must be a valid integer."),
    ("POST", "experiments/search", {"max_results": 999999}, "It must be at most 50000"),
    ("POST", "experiments/search", {"max_results": 5, "page_token": "zzz"}, ""),
    ("POST", "experiments/search", {"max_results": 5, "filter": "foo = 'x'"}, "Invalid attribute key 'foo' specified"),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "0", "value": "v"}, "Missing value for required parameter 'key'"),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "0", "key": "a$", "value": "v"}, "Names may only contain"),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "0", "key": "k", "value": "v" * 20001},
     "'value' exceeds the maximum length of 20000 characters"),
    ("POST", "runs/log-metric", {"run_id": 31, "key": "m", "value": 41, "timestamp": 59}, "Invalid value 31 for parameter 'run_id' supplied"),
    ("POST", "runs/log-metric", {"run_id": "RUN", "key": 31, "value": 41, "timestamp": 59}, "Invalid value 31 for parameter 'key' supplied"),
    ("POST", "runs/log-metric", {"run_id": "RUN", "key": "m", "value": 1, "timestamp": 59, "step": "foo"},
     "Invalid value \"foo\" for parameter 'step' supplied"),
    ("POST", "runs/log-metric", {"run_id": "RUN", "key": "m", "value": 1, "timestamp": "foo"},
     "Invalid value \"foo\" for parameter 'timestamp' supplied"),
    ("POST", "runs/log-metric", {"run_id": None, "key": "m", "value": 1, "timestamp": 59}, "Missing value for required parameter 'run_id'"),
    ("POST", "runs/log-metric", {"run_id": "RUN", "value": 1, "timestamp": 59}, "Missing value for required parameter 'key'"),
    ("POST", "runs/log-metric", {"run_id": "RUN", "key": "a$", "value": 1, "timestamp": 59}, "Names may only contain"),
    ("POST", "runs/log-parameter", {"run_id": "RUN", "key": "../x", "value": "1"}, "This name would resolve to '../x'"),
    ("POST", "runs/log-parameter", {"run_id": "RUN", "key": 31, "value": "1"}, "Invalid value 31 for parameter 'key' supplied"),
    ("POST", "runs/set-tag", {"run_id": "RUN", "key": "k", "value": 41}, "Invalid value 41 for parameter 'value' supplied"),
    ("POST", "runs/set-tag", {"run_id": "RUN", "value": "v"}, "Missing value for required parameter 'key'"),
    ("POST", "runs/log-batch", {"run_id": "RUN", "metrics": "foo"}, "Invalid value \"foo\" for parameter 'metrics' supplied"),
    ("POST", "runs/log-batch", {"run_id": "RUN", "metrics": [{"key": "mae", "value": 2.5}]}, "Missing value for required parameter 'metrics[0].timestamp'"),
    ("POST", "runs/log-inputs", {"datasets": []}, "Missing value for required parameter 'run_id'"),
    ("POST", "runs/log-model", {"run_id": "RUN", "model_json": "{"}, "Malformed model info"),
    ("POST", "runs/log-model", {"run_id": "RUN", "model_json": '{"flavors": {}}'}, "Model json is missing mandatory fields"),
    ("GET", "metrics/get-history?run_id=RUN", None, "Missing value for required parameter 'metric_key'"),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk?metric_key=k", None, "GetMetricHistoryBulk request must specify at least one run_id"),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id=1", None, "GetMetricHistoryBulk request must specify a metric_key"),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk?metric_key=k&" + "&".join(f"run_id={n}" for n in range(200)), None,
     "GetMetricHistoryBulk request cannot specify more than"),
    ("GET", f"{INTERVAL}?metric_key=k", None, "Missing value for required parameter 'run_ids'."),
    ("GET", f"{INTERVAL}?run_ids=1&metric_key=k&max_results=0", None, "max_results must be between 1 and 2500"),
    ("GET", f"{INTERVAL}?run_ids=1&metric_key=", None, "Missing value for required parameter 'metric_key'"),
    ("GET", f"{INTERVAL}?run_ids=1&metric_key=k&start_step=1&end_step=0", None, "end_step must be greater than start_step. "),
    ("GET", f"{INTERVAL}?run_ids=1&metric_key=k&start_step=1", None, "If either start step or end step are specified, both must be"),
    ("GET", "artifacts/list?run_id=RUN&path=../path", None, "Invalid path"),
    ("GET", "/get-artifact?run_id=RUN&path=../path", None, "Invalid path"),
    ("GET", "/model-versions/get-artifact?name=model&version=1&path=../path", None, "Invalid path"),
    ("POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", {}, "SearchDatasets request must specify at least one experiment_id."),
    ("POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": [str(n) for n in range(30)]},
     "SearchDatasets request cannot specify more than"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact", None, "Request must specify run_uuid."),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=RUN", None, "Request must specify path."),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=RUN&path=../x", None, "Invalid path"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=RUN&path=x", None, "Request must specify data."),
    ("POST", "artifacts/presigned-upload-url", {"path": "x"}, "Exactly one of run_id and model_id must be provided."),
    ("POST", "artifacts/presigned-upload-url", {"run_id": "RUN", "path": "x"}, "not supported for proxied artifact storage"),
    ("POST", "artifacts/presigned-upload-url", {"run_id": "RUN", "path": "../x"}, "Invalid path"),
    ("POST", "artifacts/presigned-download-url", {"run_id": "RUN", "path": "x", "expiration": 0}, "expiration must be between 1 and 604800"),
    ("POST", "logged-models", {"name": "m"}, "Missing value for required parameter 'experiment_id'"),
    ("POST", "logged-models", {"experiment_id": "0", "name": "a/b"}, "Model name must be a non-empty string and cannot contain"),
    ("POST", "logged-models/search", {}, "Missing value for required parameter 'experiment_ids'"),
    ("POST", "logged-models/search", {"experiment_ids": ["0"], "order_by": [{"field_name": "zz"}]}, "Invalid order by field name: zz"),
    ("POST", "logged-models/search", {"experiment_ids": ["0"], "order_by": [{"field_name": "params.x"}]}, "Only metrics are supported."),
    ("POST", "registered-models/create", {"name": "a/b"}, "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
    ("POST", "registered-models/create", {"name": ".."}, "This name would resolve to '..'"),
    ("POST", "registered-models/create", {"name": " "}, "Missing value for required parameter 'name'"),
    ("POST", "registered-models/set-tag", {"name": "x"}, "Missing value for required parameter 'key'"),
    ("GET", "registered-models/search?order_by=creation_timestamp", None, "Invalid order by key 'creation_timestamp' specified."),
    ("GET", "registered-models/search?max_results=1001", None, "for parameter 'max_results' supplied"),
    ("GET", "model-versions/search?max_results=200001", None, "for parameter 'max_results' supplied"),
    ("GET", "model-versions/get?name=x&version=abc", None, "Parameter 'version' must be an integer, got 'abc'."),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "/tmp", "run_id": "RUN"}, "To use a local path as a model version"),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "file:///tmp"}, "To use a local path as a model version"),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "mlflow-artifacts:/models", "run_id": "RUN"}, "Invalid model version source"),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "mlflow-artifacts://h:9/m/..%2f..%2fa", "run_id": "RUN"}, ""),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "s3a://b/api/../../x", "run_id": "RUN"},
     "If supplying a source as an http, https,"),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "s3://b/m%00", "run_id": "RUN"}, "Invalid model version source"),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "http://h:9/m", "run_id": "RUN"}, ""),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "runs:/RUN/model"}, "The run_id request parameter must identify"),
    ("POST", "model-versions/create", {"name": "MODEL", "source": "models:/m-1234", "model_id": "m-other"}, "Invalid model version source"),
    ("POST", "webhooks", {"name": "w", "url": "ftp://h/x", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
     "Invalid webhook URL scheme"),
    ("POST", "webhooks", {"name": "w", "url": "   ", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
     "Webhook URL cannot be empty or just whitespace"),
    ("POST", "webhooks", {"name": "w", "url": "http://[invalid", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
     "Invalid webhook URL"),
    ("POST", "webhooks", {"name": "-w", "url": "https://e.com", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
     "It must start and end with a letter or digit"),
    ("POST", "webhooks", {"name": "w", "url": "https://e.com", "events": [{"entity": "PROMPT", "action": "DELETED"}]},
     "Invalid action 'deleted' for entity 'prompt'. Valid actions are: ['created']"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "message"), BAD)
def test_bad_request(server: Any, run: dict[str, Any], method: str, path: str, body: Any, message: str) -> None:
    server.call("POST", "registered-models/create", {"name": "wire-model"})
    text = json.dumps(body).replace("RUN", run["run_id"]).replace("MODEL", "wire-model")
    status, answer = server.call(method, path.replace("RUN", run["run_id"]), json.loads(text))
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert message in answer["message"]


MISSING = [
    ("GET", "experiments/get?experiment_id=99999", None, "No Experiment with id=99999 exists"),
    ("GET", "experiments/get-by-name?experiment_name=nope", None, "Could not find experiment with name 'nope'"),
    ("POST", "runs/create", {"experiment_id": "99999"}, "No Experiment with id=99999 exists"),
    ("GET", "runs/get?run_id=nope", None, "Run with id=nope not found"),
    ("POST", "runs/update", {"run_id": "nope", "status": "FINISHED"}, "Run with id=nope not found"),
    ("GET", "artifacts/list?run_id=nope", None, "Run with id=nope not found"),
    ("GET", f"{ARTIFACTS}/none/b.txt", None, "No such artifact: 'none/b.txt'"),
    ("GET", "logged-models/m-nope", None, "not found"),
    ("GET", "registered-models/get?name=nope", None, "Registered Model with name=nope not found"),
    ("POST", "model-versions/create", {"name": "nope", "source": "s3://b/x"}, "Registered Model with name=nope not found"),
    ("GET", "model-versions/get?name=nope&version=1", None, "not found"),
    ("DELETE", "registered-models/delete", {"name": "nope"}, "Registered Model with name=nope not found"),
    ("GET", "webhooks/nonexistent", None, "Webhook with ID nonexistent not found"),
    ("DELETE", "webhooks/nonexistent", None, "Webhook with ID nonexistent not found"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "message"), MISSING)
def test_missing_thing(server: Any, method: str, path: str, body: Any, message: str) -> None:
    status, answer = server.call(method, path, body)
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert message in answer["message"]


def test_numbers_come_as_numbers_and_nothing_as_nothing(server: Any, run: dict[str, Any]) -> None:
    id = run["run_id"]
    assert (run["start_time"], run["run_uuid"], run["experiment_id"]) == (5, id, "0")
    body = b'{"run_uuid": "%s", "run_id": "%s", "key": "n", "value": "NaN", "timestamp": "7", "step": "3"}'
    status, _ = server.call("POST", "runs/log-metric", raw=body % (id.encode(), id.encode()))
    assert status == 200
    _, found = server.call("GET", f"runs/get?run_id={id}")
    assert {"key": "n", "value": "NaN", "timestamp": 7, "step": 3} in found["run"]["data"]["metrics"]
    assert server.call("GET", "registered-models/search?filter=name%3D%27nobody%27") == (200, {})
    status, made = server.call("POST", "registered-models/create", {"name": f"empty-{id}"})
    assert sorted(made["registered_model"]) == ["creation_timestamp", "last_updated_timestamp", "name"]
    source = {"name": f"empty-{id}", "source": "s3://b/x"}
    version = server.call("POST", "model-versions/create", source)[1]["model_version"]
    assert (version["version"], version["current_stage"], version["status"]) == ("1", "None", "READY")
    assert (version["description"], version["run_link"], "tags" in version) == ("", "", False)


def test_deleted_things_may_be_deleted_and_restored_again(server: Any) -> None:
    run = server.call("POST", "runs/create", {"experiment_id": "0"})[1]["run"]["info"]["run_id"]
    for verb in ("delete", "delete", "restore", "restore"):
        assert server.call("POST", f"runs/{verb}", {"run_id": run})[0] == 200


def test_both_prefixes_lead_to_the_same_place(server: Any) -> None:
    for root in ("api", "ajax-api"):
        assert server.call("GET", f"/{root}/2.0/mlflow/experiments/get?experiment_id=0")[0] == 200
    assert server.call("GET", "/api/3.0/mlflow/server-info")[0] == 200


def test_transfers_that_are_not_supported_say_so(server: Any) -> None:
    body = {"path": "x", "num_parts": 2}
    for method, path, given in (
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/x", body),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/abort/x", {"path": "x", "upload_id": "u"}),
        ("GET", "/api/2.0/mlflow-artifacts/presigned/x", None),
    ):
        status, answer = server.call(method, path, given)
        assert (status, answer["error_code"]) == (501, "NOT_IMPLEMENTED")
        assert "is not supported for the current artifact repository" in answer["message"]
    info = server.call("GET", "/api/3.0/mlflow/server-info")[1]
    assert (info["multipart_uploads_enabled"], info["multipart_downloads_enabled"]) == (False, False)


def test_proxied_files_are_listed_read_and_deleted(server: Any, run: dict[str, Any]) -> None:
    root = f"0/{run['run_id']}/artifacts/proxy"
    for path in ("a.txt", "dir/b.txt"):
        assert server.call("PUT", f"{ARTIFACTS}/{root}/{path}", raw=b"1")[0] == 200
    status, listed = server.call("GET", f"{ARTIFACTS}?path={root}")
    assert (status, sorted(listed["files"], key=lambda file: file["path"])) == (
        200, [{"path": "a.txt", "is_dir": False, "file_size": 1}, {"path": "dir", "is_dir": True}],
    )  # fmt: skip
    listed = server.call("GET", f"artifacts/list?run_id={run['run_id']}&path=proxy/dir")[1]
    assert listed == {
        "root_uri": run["artifact_uri"], "files": [{"path": "proxy/dir/b.txt", "is_dir": False, "file_size": 1}],
    }  # fmt: skip
    assert server.call("GET", f"/get-artifact?run_id={run['run_id']}&path=proxy/a.txt") == (200, 1)
    assert server.call("DELETE", f"{ARTIFACTS}/{root}/a.txt")[0] == 200
    assert server.call("GET", f"{ARTIFACTS}/{root}/a.txt")[0] == 404


def test_small_upload_through_the_pages_route(server: Any, run: dict[str, Any]) -> None:
    path = f"run_uuid={run['run_id']}&path=up/test.txt"
    assert server.call("POST", f"/ajax-api/2.0/mlflow/upload-artifact?{path}", raw=b"hello world")[0] == 200
    assert server.call("GET", f"/get-artifact?{path}") == (200, b"hello world")
