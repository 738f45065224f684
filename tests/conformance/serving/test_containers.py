"""The contracts of the platforms that run containers: Vertex AI, Cloud Run, SageMaker, KServe's flags."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request

import pytest


def _call(url: str, document: object = None, **headers: str) -> tuple[int, dict, dict]:
    body = None if document is None else json.dumps(document).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, names)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status, json.loads(response.read().strip() or b"null"), dict(response.headers)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def rows(cancer):
    return cancer[0][:3].to_numpy().tolist()


def test_vertex_ai_sets_routes_and_port(serve, cancer_model, rows, tmp_path):
    port = _free_port()
    folder = tmp_path / "state"
    command = [sys.executable, "-m", "mainspring.serving", "--endpoint", "m", "--folder", str(folder)]
    variables = {
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": "/alive",
        "AIP_PREDICT_ROUTE": "/score",
        "PATH": "/usr/bin",
    }
    process = subprocess.Popen([*command, "--model", str(cancer_model)], env=variables, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/alive")
        status, answer, _ = _call(f"http://127.0.0.1:{port}/score", {"instances": rows, "parameters": {"x": 1}})
        assert status == 200
        assert len(answer["predictions"]) == 3
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_the_flags_of_kserve(cancer_model, rows, tmp_path):
    port = _free_port()
    command = [sys.executable, "-m", "mainspring.serving", "--model_name", "m", "--model_dir", str(cancer_model)]
    command += ["--http_port", str(port), "--folder", str(tmp_path / "state"), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/v1/models/m")
        status, answer, _ = _call(f"http://127.0.0.1:{port}/v1/models/m:predict", {"instances": rows})
        assert (status, len(answer["predictions"])) == (200, 3)
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_sagemaker_names(endpoint, rows):
    with urllib.request.urlopen(f"{endpoint.url}/ping") as response:
        assert response.status == 200
    status, _, headers = _call(
        f"{endpoint.url}/invocations",
        {"instances": rows},
        Content_Type="application/json",
        X_Amzn_SageMaker_Inference_Id="infer-1",
        X_Amzn_SageMaker_Target_Variant="champion",
    )
    assert (status, headers["x-request-id"], headers["x-variant"]) == (200, "infer-1", "champion")


def test_vertex_routes_follow_from_its_ids_when_none_are_set():
    from mainspring.serving.flags import read_flags

    options, workers = read_flags(
        ["--endpoint", "m"], {"AIP_ENDPOINT_ID": "7", "AIP_DEPLOYED_MODEL_ID": "9", "PORT": "8123"}
    )
    assert options.app.health_route == "/v1/endpoints/7/deployedModels/9"
    assert options.app.predict_route == "/v1/endpoints/7/deployedModels/9:predict"
    assert (options.port, workers) == (8123, 1)


def _wait(url: str) -> None:
    import time

    end = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
