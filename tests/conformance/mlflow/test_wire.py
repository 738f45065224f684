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
    ("POST", "runs/log-batch", {"run_id": "RUN", "metrics": [{"key": "a", "value": 1, "timestamp": 1}, {"key": "../b", "value": 1, "timestamp": 1}]},
     "for parameter 'metrics[1].name' supplied"),
    ("POST", "runs/log-batch", {"run_id": "RUN", "params": [{"key": "a", "value": "1"}, {"key": "b$", "value": "1"}]}, "for parameter 'params[1].key' supplied"),
    ("POST", "runs/log-batch", {"run_id": "RUN", "tags": [{"key": "k" * 251, "value": "1"}]}, "'tags[0].key' exceeds the maximum length of 250 characters"),
    ("POST", "runs/log-batch", {"run_id": "RUN", "params": [{"key": "k" * 251, "value": "1"}]}, "'Param key' exceeds the maximum length of 250 characters"),
    ("POST", "runs/log-metric", {"run_id": "RUN", "key": "k" * 251, "value": 1, "timestamp": 1}, "'Metric name' exceeds the maximum length of 250 characters"),
    ("POST", "runs/log-metric", {"run_id": "RUN", "key": "k", "value": 1, "timestamp": 1, "dataset_name": "d"},
     "Both dataset_name and dataset_digest must be provided"),
    ("POST", "runs/log-batch", {"run_id": "RUN", "params": [{"key": "z", "value": "1"}, {"key": "z", "value": "2"}]},
     "Duplicate parameter keys have been submitted: ['z']."),
    ("POST", "runs/log-batch", {"run_id": "bad id!"}, "Invalid value \"bad id!\" for parameter 'run_id' supplied"),
    ("POST", "runs/log-inputs", {"run_id": "bad id!", "datasets": []}, "Invalid value \"bad id!\" for parameter 'run_id' supplied"),
    ("POST", "runs/log-inputs", {"run_id": "RUN", "datasets": [{"dataset": {"name": "x" * 501, "digest": "d", "source_type": "l", "source": "s"}}]},
     "'name' exceeds the maximum length of 500 characters"),
    ("POST", "runs/outputs", {"run_id": "RUN"}, "Missing value for required parameter 'models'"),
    ("POST", "runs/create", {"experiment_id": "abc"}, "Invalid experiment ID 'abc'. Experiment ID must be a valid integer."),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "metrics.a"}, "Invalid clause(s) in filter string: 'metrics.a'"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "name = 'a' OR name = 'b'"}, "Invalid clause(s) in filter string: 'OR'"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "metrics.a = 'x'"}, "Expected numeric value type for metric. Found 'x'"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "start_time = 'x'"},
     "Expected numeric value type for numeric attribute: start_time. Found 'x'"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "params.a = 1"}, "Expected a quoted string value for parameter"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "status = FINISHED"},
     "Parameter value is either not quoted or unidentified quote types used for string value FINISHED"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "run_id IN ()"},
     "While parsing a list in the query, expected a non-empty list of string values, but got empty list"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "filter": "foo.bar = 'x'"}, "Invalid entity type 'foo'. Valid values are ['metric', "),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "order_by": ["metrics.a FOO"]}, "Invalid ordering key in order_by clause"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 5, "order_by": ["start_time desc asc"]}, "Could not be parsed."),
    ("POST", "logged-models/search", {"experiment_ids": ["0"], "filter": "Foo"}, "Invalid filter string: 'Foo'. Expected a list of comparisons"),
    ("POST", "logged-models/search", {"experiment_ids": ["0"], "filter": "name > 'x'"}, "Invalid comparison operator"),
    ("POST", "logged-models/search", {"experiment_ids": ["0"], "order_by": [{"field_name": ""}]}, "Invalid order by field name: "),
    ("GET", "registered-models/search?order_by=name%20DESC%20blah", None, "Invalid order_by clause 'name DESC blah'"),
    ("GET", "registered-models/alias?name=x&alias=" + "a" * 256, None, "'Registered model alias name' exceeds the maximum length of 255 characters"),
    ("GET", "model-versions/search?filter=evilhax%20%3D%20true", None, "Invalid clause(s) in filter string"),
    ("GET", "model-versions/search?filter=run_id%20IN%20(%2C)", None, "expected a non-empty list of string values, but got ill-formed list"),
    ("GET", "model-versions/search?order_by=run_id", None, "Invalid attribute key 'run_id' specified"),
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


def test_a_file_on_another_host_is_the_servers_error(server: Any, run: dict[str, Any]) -> None:
    server.call("POST", "registered-models/create", {"name": "wire-model"})
    body = {"name": "wire-model", "source": "file://123.456.789.123/path/to/source", "run_id": run["run_id"]}
    status, answer = server.call("POST", "model-versions/create", body)
    assert (status, answer["error_code"]) == (500, "INTERNAL_ERROR")
    assert "is not a valid remote uri" in answer["message"]


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


def test_params_do_not_change_and_each_way_to_log_says_so(server: Any) -> None:
    run = server.call("POST", "runs/create", {"experiment_id": "0"})[1]["run"]["info"]["run_id"]
    params = [{"key": "a", "value": "1"}, {"key": "b", "value": "1"}]
    assert server.call("POST", "runs/log-batch", {"run_id": run, "params": params})[0] == 200
    params = [{"key": "a", "value": "2"}, {"key": "c", "value": "1"}]
    metrics = [{"key": "m", "value": 1, "timestamp": 1}]
    status, answer = server.call("POST", "runs/log-batch", {"run_id": run, "params": params, "metrics": metrics})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    changed = "[{'key': 'a', 'old_value': '1', 'new_value': '2'}]"
    assert answer["message"] == (
        f"Changing param values is not allowed. Params were already logged='{changed}' for run ID='{run}'."
    )
    status, answer = server.call("POST", "runs/log-parameter", {"run_id": run, "key": "b", "value": "2"})
    assert (status, answer["message"]) == (
        400,
        "Changing param values is not allowed. Param with key='b' was already logged with value='1' for run "
        f"ID='{run}'. Attempted logging new value '2'.",
    )
    data = server.call("GET", f"runs/get?run_id={run}")[1]["run"]["data"]
    assert ({pair["key"] for pair in data["params"]}, "metrics" in data) == ({"a", "b"}, False)


def test_the_last_page_has_no_token_even_if_it_is_full(server: Any, name: str) -> None:
    experiment = server.call("POST", "experiments/create", {"name": name})[1]["experiment_id"]
    body = {"experiment_id": experiment, "start_time": 1}
    ids = sorted(server.call("POST", "runs/create", body)[1]["run"]["info"]["run_id"] for _ in range(4))
    for number in range(4):
        metric = {"run_id": ids[0], "key": "m", "value": number, "timestamp": number}
        assert server.call("POST", "runs/log-metric", metric)[0] == 200
    search = {"experiment_ids": [experiment], "max_results": 2}
    by_metric = {**search, "order_by": ["metrics.m DESC"]}
    for body in (search, by_metric):
        first = server.call("POST", "runs/search", body)[1]
        last = server.call("POST", "runs/search", {**body, "page_token": first["next_page_token"]})[1]
        assert [run["info"]["run_id"] for run in (*first["runs"], *last["runs"])] == ids
        assert "next_page_token" not in last
    history = f"metrics/get-history?run_id={ids[0]}&metric_key=m&max_results=2"
    first = server.call("GET", history)[1]
    last = server.call("GET", f"{history}&page_token={first['next_page_token']}")[1]
    assert [metric["value"] for metric in (*first["metrics"], *last["metrics"])] == [0, 1, 2, 3]
    assert "next_page_token" not in last


def test_a_model_is_deleted_whatever_its_aliases(server: Any, name: str) -> None:
    server.call("POST", "registered-models/create", {"name": name})
    for version in ("1", "2"):
        server.call("POST", "model-versions/create", {"name": name, "source": "s3://b/x"})
        body = {"name": name, "alias": "champion", "version": version}
        assert server.call("POST", "registered-models/alias", body)[0] == 200
    assert server.call("DELETE", "model-versions/delete", {"name": name, "version": "2"})[0] == 200
    assert "aliases" not in server.call("GET", f"registered-models/get?name={name}")[1]["registered_model"]
    server.call("POST", "registered-models/alias", {"name": name, "alias": "champion", "version": "1"})
    assert server.call("DELETE", "registered-models/delete", {"name": name})[0] == 200
    assert server.call("GET", f"registered-models/get?name={name}")[0] == 404


def test_filters_may_end_in_and(server: Any) -> None:
    body = {"experiment_ids": ["0"], "max_results": 5, "filter": "run_id = 'nobody' AND"}
    assert server.call("POST", "runs/search", body) == (200, {})


def test_a_logged_model_may_name_a_run_from_elsewhere(server: Any) -> None:
    body = {"experiment_id": "0", "name": "m", "source_run_id": "123"}
    made = server.call("POST", "logged-models", body)[1]["model"]["info"]
    assert server.call("GET", f"logged-models/{made['model_id']}")[1]["model"]["info"]["source_run_id"] == "123"


def test_no_experiments_have_no_logged_models(server: Any) -> None:
    assert server.call("POST", "logged-models/search", {"experiment_ids": []}) == (200, {})


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
