"""MLflow's own scoring client and deployments client, unchanged, and the payloads of its scoring protocol."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest


def _post(url: str, body: bytes, kind: str) -> tuple[int, str, bytes]:
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers["content-type"], response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read()


def test_the_scoring_client(endpoint, cancer):
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    frame, model = cancer
    client = ScoringServerClient("127.0.0.1", endpoint.port)
    client.wait_server_ready(timeout=5)
    client.ping()
    assert client.get_version()
    found = json.loads(client.invoke(frame[:9]).to_json())["predictions"]
    assert found == model.predict(frame[:9]).tolist()


def test_the_deployments_client(endpoint, cancer):
    from mlflow.deployments import get_deploy_client

    frame, model = cancer
    client = get_deploy_client(endpoint.url)
    document = {"dataframe_split": json.loads(frame[:3].to_json(orient="split"))}
    assert client.predict(endpoint="cancer", inputs=document)["predictions"] == model.predict(frame[:3]).tolist()
    assert client.get_endpoint("cancer").name == "cancer"
    assert [one.name for one in client.list_endpoints()] == ["cancer"]


def _forms(frame):
    columns = list(frame.columns)
    rows = frame.to_numpy().tolist()
    records = frame.to_dict(orient="records")
    return {
        "split": {"dataframe_split": {"columns": columns, "index": [0, 1], "data": rows}},
        "split without columns": {"dataframe_split": {"data": rows}},
        "split in another order": {"dataframe_split": {"columns": columns[::-1], "data": [row[::-1] for row in rows]}},
        "records": {"dataframe_records": records},
        "records with more": {"dataframe_records": [record | {"more": 1} for record in records]},
        "instances of objects": {"instances": records},
        "instances of lists": {"instances": rows},
        "inputs": {"inputs": {name: frame[name].tolist() for name in columns}},
        "numeric strings": {
            "dataframe_records": [record | {columns[0]: str(record[columns[0]])} for record in records]
        },
        "whole numbers": {"dataframe_records": [record | {columns[0]: int(record[columns[0]])} for record in records]},
        "params and unknown keys": {"dataframe_records": records, "params": {}, "something": 1},
    }


@pytest.mark.parametrize("form", _forms(pd.DataFrame(np.ones((2, 30)))))
def test_every_json_form(endpoint, cancer, form):
    frame, model = cancer
    document = _forms(frame[:2])[form]
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        status, _, body = _post(endpoint.url, json.dumps(document).encode(), kind)
        assert status == 200, body
        assert len(json.loads(body)["predictions"]) == 2
    if form != "whole numbers":
        assert json.loads(body)["predictions"] == model.predict(frame[:2]).tolist()


def test_csv_and_parquet(endpoint, cancer):
    frame, model = cancer
    expected = {"predictions": model.predict(frame[:5]).tolist()}
    table = io.BytesIO()
    frame[:5].to_parquet(table)
    for kind, body in (
        ("text/csv", frame[:5].to_csv(index=False).encode()),
        ("application/vnd.apache.parquet", table.getvalue()),
    ):
        status, _, answer = _post(endpoint.url, body, kind)
        assert (status, json.loads(answer)) == (200, expected)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-pickle", "application/json; charset=latin-1", "application/json; a=b"]
)
def test_other_content_types_are_a_415_in_plain_text(endpoint, kind):
    status, answered, body = _post(endpoint.url, b"{}", kind)
    assert status == 415
    assert answered.startswith("text/plain")
    assert b"content type" in body.lower()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"instances": [[1]], "inputs": [[1]]}',
        b'{"dataframe_split": {"columns": ["a"], "data": [[1]], "more": 1}}',
        b'{"instances": [[1]], "more": 1}',
        b'{"inputs": [[1, 2]]}',
        b'{"messages": []}',
        b'{"dataframe_records": [{"mean radius": 1}]}',
    ],
)
def test_mistakes_are_a_400_in_mlflows_shape(endpoint, body):
    status, kind, answer = _post(endpoint.url, body, "application/json")
    assert (status, kind) == (400, "application/json")
    document = json.loads(answer)
    assert document.keys() == {"error_code", "message"}
    assert document["error_code"] == "BAD_REQUEST"


def test_the_small_routes(endpoint):
    for path in ("/ping", "/health"):
        with urllib.request.urlopen(endpoint.url + path) as response:
            assert (response.status, response.read()) == (200, b"\n")
    with urllib.request.urlopen(f"{endpoint.url}/version") as response:
        assert response.read()
