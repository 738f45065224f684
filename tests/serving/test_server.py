"""Real endpoint processes: public clients, kills, stops, swaps."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest

from mainspring.serving import find_records, read_records

PREDICT = "/v1/models/flights:predict"


def _wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _predictions(client, frame):
    return json.loads(client.invoke(frame).to_json())["predictions"]


def test_public_clients_get_the_same_predictions(run_endpoint, deploy, tmp_path, rows):
    import pandas as pd
    import tritonclient.http as triton
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    deploy(tmp_path)
    process = run_endpoint()
    scoring = ScoringServerClient("127.0.0.1", process.port)
    scoring.wait_server_ready(timeout=30)
    frame = pd.DataFrame(rows)
    assert len(_predictions(scoring, frame)) == 3
    assert scoring.get_version() == "0.1.0"

    client = triton.InferenceServerClient(f"127.0.0.1:{process.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("flights")
    assert client.is_model_ready("flights", "1")
    assert client.get_server_metadata()["name"] == "mainspring"
    assert [tensor["name"] for tensor in client.get_model_metadata("flights")["inputs"]] == list(rows[0])
    assert client.get_model_repository_index()[0]["name"] == "flights"
    full = [row | {"engine": row["engine"] or "jet"} for row in rows]
    frame = pd.DataFrame(full)
    for binary in (False, True):
        for compression in (None, "gzip", "deflate"):
            inputs = []
            for name, kind, dtype in [
                ("carrier", "BYTES", object),
                ("engine", "BYTES", object),
                ("month", "INT64", np.int64),
                ("distance", "FP64", np.float64),
                ("temp", "FP64", np.float64),
            ]:
                tensor = triton.InferInput(name, [3], kind)
                values = [50.0 if row[name] is None else row[name] for row in full]
                tensor.set_data_from_numpy(np.array(values, dtype=dtype), binary_data=binary)
                inputs.append(tensor)
            wanted = [triton.InferRequestedOutput("predict", binary_data=binary)]
            result = client.infer(
                "flights", inputs, outputs=wanted, request_id="t-1", request_compression_algorithm=compression
            )
            reference = _predictions(scoring, frame.fillna({"temp": 50.0}))
            assert result.as_numpy("predict").tolist() == reference
            assert result.get_response()["id"] == "t-1"
    with pytest.raises(triton.InferenceServerException, match="is missing"):
        client.infer("flights", inputs[:1])
    client.close()


def test_what_was_answered_is_shadowed_before_the_process_ends(run_endpoint, deploy, tmp_path, rows):
    deploy(tmp_path, 1, champion=(100, True, "1"), baseline=(0, True, "2"))
    process = run_endpoint()
    connection = process.connect()
    for _ in range(20):
        connection.request("POST", PREDICT, msgspec.json.encode({"instances": rows * 200}))
        assert connection.getresponse().read()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(60) == 0
    shadows = [record for record in read_records(tmp_path / "predictions", 0, 2**60) if record.shadow]
    assert [(record.variant, record.status, record.rows) for record in shadows] == [("baseline", 200, 600)] * 20


def test_an_idle_connection_is_answered_once_more_while_stopping(run_endpoint, deploy, tmp_path, rows):
    deploy(tmp_path)
    process = run_endpoint()
    connection = process.connect()
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().read() == b'{"ready":true,"revision":1}'
    process.process.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    connection.request("POST", PREDICT, msgspec.json.encode({"instances": rows}))
    response = connection.getresponse()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert process.process.wait(60) == 0


def test_a_stalled_client_does_not_hold_the_stop(run_endpoint, deploy, tmp_path):
    deploy(tmp_path)
    process = run_endpoint()
    with socket.create_connection(("127.0.0.1", process.port)) as stalled:
        stalled.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1".encode())
        time.sleep(0.2)
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0


def test_a_swap_under_load_fails_no_request(run_endpoint, deploy, tmp_path, load):
    deploy(tmp_path)
    process = run_endpoint()
    clients = load(process, 8)
    for revision in range(2, 6):
        time.sleep(0.1)
        deploy(tmp_path, revision, champion=(100, False, "2" if revision % 2 == 0 else "1"))
        _wait_until(lambda revision=revision: json.loads(process.get("/v2/health/ready")[1])["revision"] == revision)
    clients.finish()
    assert clients.failures == []
    assert clients.versions == {"1", "2"}


def test_an_endpoint_without_a_deployment_waits_for_one(run_endpoint, deploy, tmp_path, rows):
    process = run_endpoint()
    assert process.get("/v2/health/live")[0] == 200
    assert process.get("/v2/health/ready") == (503, b'{"ready":false,"revision":0}')
    deploy(tmp_path)
    _wait_until(lambda: process.get("/v2/health/ready")[0] == 200)


def test_a_tampered_model_is_not_served(run_endpoint, copy_model, tmp_path, deploy):
    deployment = deploy(tmp_path)
    text = (tmp_path / "deployment.json").read_text()
    (tmp_path / "deployment.json").write_text(text.replace(deployment.variants[0].model.folder, str(copy_model)))
    booster = copy_model / "data/flights/booster.txt"
    booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=9", 1))
    process = run_endpoint()
    assert process.get("/v2/health/ready")[0] == 503
    assert "digest" in json.loads(process.get("/v1/endpoints/flights")[1])["error"]


def test_a_model_folder_is_enough(run_endpoint, model_folder, rows):
    process = run_endpoint("--model", str(model_folder))
    connection = process.connect()
    connection.request("POST", "/invocations", msgspec.json.encode({"dataframe_records": rows}))
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["x-model-digest"].startswith("sha256:" + response.headers["x-model-version"])


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--port", "{port}"], 6, "is in use"),
        (["--port", "99999"], 2, "not a port"),
        (["--host", "0.0.0.0"], 7, "needs a token"),
        (["--model", "/nowhere"], 3, "no MLmodel file"),
        (["--clock", "sundial"], 2, "Unknown clock"),
    ],
)
def test_a_process_that_cannot_start_says_why_in_one_line(tmp_path, flags, status, words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = [flag.format(port=taken.getsockname()[1]) for flag in flags]
        command = [sys.executable, "-m", "mainspring.serving", "--endpoint", "e", "--folder", str(tmp_path), *flags]
        result = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert result.returncode == status
    assert result.stdout == b""
    (line,) = result.stderr.splitlines()
    assert words in json.loads(line)["error"]


def test_hostile_bytes_do_not_harm_the_endpoint(run_endpoint, deploy, tmp_path, rows):
    deploy(tmp_path)
    process = run_endpoint()
    for data in (b"\x16\x03\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"POST " + b"x" * 70_000):
        with socket.create_connection(("127.0.0.1", process.port)) as raw:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(2)
            assert b" 500 " not in raw.recv(1000)
    with socket.create_connection(("127.0.0.1", process.port)) as raw:
        raw.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n".encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", process.port)) as raw:
        raw.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        raw.settimeout(5)
        raw.sendall(b"2000000\r\n" + b"x" * 0x1000001)
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")
    connection = process.connect()
    connection.request("POST", PREDICT, msgspec.json.encode({"instances": rows}), {"x-request-id": "after"})
    assert connection.getresponse().status == 200
    assert len(find_records(tmp_path / "predictions", "after")) == 1


def test_importing_the_room_is_light():
    heavy = ("polars", "pandas", "mlflow", "sqlalchemy", "lightgbm", "uvicorn", "numpy")
    code = f"import sys, mainspring.serving; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"


def test_bad_input_over_http_is_refused_and_the_connection_lives_on(run_endpoint, deploy, tmp_path, rows):
    deploy(tmp_path)
    connection: http.client.HTTPConnection = run_endpoint().connect()
    for body, status in ((b"{", 400), (msgspec.json.encode({"instances": rows}), 200), (b"null", 400)):
        connection.request("POST", PREDICT, body)
        response = connection.getresponse()
        response.read()
        assert response.status == status
