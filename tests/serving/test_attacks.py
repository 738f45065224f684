"""A real process under hostile requests: answered 4xx in shape, none harms another, memory stays."""

from __future__ import annotations

import gzip
import importlib.util
import json
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import msgspec
import pytest

_spec = importlib.util.spec_from_file_location("bad_bodies", Path(__file__).with_name("test_protocols.py"))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
BAD = _module.BAD
V1 = "/v1/models/flights:predict"
V2 = "/v2/models/flights/infer"


def _rss_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


def _hostile_bodies():
    for path, body, _ in BAD.values():
        yield path, body, {}
    spaces = gzip.compress(b" " * (100 << 20), 5)
    brackets = zlib.compress(b"[" * (20 << 20), 5)
    for path in (V1, V2, "/invocations"):
        yield path, spaces, {"content-encoding": "gzip"}
        yield path, brackets, {"content-encoding": "deflate"}
        yield path, b"\xff" * 1_000, {}
        yield path, b"{}", {"content-encoding": "br"}
        yield path, b"", {}
        yield path, b"{" * 1_000_000, {}
        yield path, b'{"instances": [' + b"1," * 1_000_000 + b"1]}", {}
        yield path, b'{"instances": [{"' + b"x" * 1_000_000 + b'": 1}]}', {}
        yield path, b'{"instances": [' + b"9" * 1_000_000 + b"]}", {}
    tensors = [{"name": "x", "shape": [1, 5], "datatype": "FP64", "parameters": {"binary_data_size": 2**62}}]
    head = json.dumps({"inputs": tensors}).encode()
    yield V2, head + b"x" * 40, {"inference-header-content-length": str(len(head))}
    yield V2, head, {"inference-header-content-length": "-1"}
    yield V2, head, {"inference-header-content-length": "1e3"}
    yield V2, struct.pack("<d", 1.0) * 3, {"inference-header-content-length": "0"}
    for shape in ([2**40, 2**40], [0, 5], [2**63], [1] * 17, [-1]):
        document = {"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": [1.0]}]}
        yield V2, json.dumps(document).encode(), {}
    for kind in (
        "text/csv",
        "application/vnd.apache.parquet",
        "application/x-pickle",
        "multipart/form-data; boundary=x",
    ):
        yield "/invocations", b'\x80\x04\x95PAR1"\n"', {"content-type": kind}
    yield V1, b"{}", {"x-request-timeout-ms": "-5"}
    yield V1, b"{}", {"x-variant": "../../etc/passwd"}
    yield "/v1/models/other:predict", b"{}", {}
    yield "/v2/models/flights/versions/..%2f..%2f1/infer", b"{}", {}
    yield "/v2/repository/models/flights/load", b'{"parameters": {"file:1/model.py": "x"}}', {}
    yield "/v1/endpoints/flights/labels", b'{"labels": [{"id": "a:0", "label": 1e999, "time": 1}]}', {}
    yield "/v1/models/flights:explain", b'{"instances": [[1]]}', {}


def _check(path: str, status: int, kind: str, body: bytes) -> None:
    assert 400 <= status < 500 or status == 503, (path, status, body[:200])
    assert len(body) < 3_500
    assert b"Traceback" not in body
    assert b'File "' not in body
    if status == 415 and path == "/invocations":
        assert kind.startswith("text/plain")
        return
    document = msgspec.json.decode(body)
    assert document.keys() == ({"error_code", "message"} if path == "/invocations" else {"error"})


def test_every_attack_is_answered_4xx_in_shape_and_memory_stays(run_endpoint, deploy, tmp_path, rows):
    deploy(tmp_path)
    process = run_endpoint("--max-body", str(4 << 20))
    good = msgspec.json.encode({"instances": rows})
    bodies = list(_hostile_bodies())
    sizes = []
    for _ in range(3):
        for path, body, headers in bodies:
            connection = process.connect()
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            _check(path, response.status, response.headers["content-type"], response.read())
            connection.close()
        connection = process.connect()
        connection.request("POST", V1, good)
        assert connection.getresponse().status == 200
        sizes.append(_rss_mb(process.process.pid))
    assert sizes[-1] - sizes[0] < 25
    assert sizes[-1] < 300


def test_a_body_of_150_mb_is_refused_without_being_kept(run_endpoint, deploy, tmp_path):
    deploy(tmp_path)
    process = run_endpoint()
    before = _rss_mb(process.process.pid)
    for head in (b"Content-Length: 157286400\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", process.port)) as raw:
            raw.sendall(f"POST {V1} HTTP/1.1\r\nHost: x\r\n".encode() + head)
            block = b"x" * 0x100000
            try:
                for _ in range(150):
                    raw.sendall((b"100000\r\n" + block + b"\r\n") if head.startswith(b"T") else block)
            except ConnectionError:
                pass
            raw.settimeout(3)
            assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert _rss_mb(process.process.pid) - before < 60


def test_200_stalled_clients_do_not_keep_a_good_one_waiting(run_endpoint, deploy, tmp_path, rows):
    deploy(tmp_path)
    process = run_endpoint()
    stalled = []
    for _ in range(200):
        raw = socket.create_connection(("127.0.0.1", process.port))
        raw.sendall(f"POST {V1} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1".encode())
        stalled.append(raw)
    connection = process.connect()
    began = time.perf_counter()
    connection.request("POST", V1, msgspec.json.encode({"instances": rows}))
    assert connection.getresponse().status == 200
    assert time.perf_counter() - began < 3
    for raw in stalled:
        raw.close()


def test_two_poisonous_clients_among_18_harm_no_good_request(run_endpoint, deploy, tmp_path, load):
    deploy(tmp_path)
    process = run_endpoint()
    stopping = threading.Event()
    answered = []

    def poison() -> None:
        connection = process.connect()
        while not stopping.is_set():
            for path, body, _ in list(BAD.values())[::3]:
                connection.request("POST", path, body)
                response = connection.getresponse()
                response.read()
                answered.append(response.status)

    threads = [threading.Thread(target=poison, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    clients = load(process, 16)
    time.sleep(2)
    clients.finish()
    stopping.set()
    for thread in threads:
        thread.join(5)
    assert clients.failures == []
    assert len(clients.acknowledged) > 300
    assert len(answered) > 50
    assert set(answered) == {400}


@pytest.fixture
def touchy_model(tmp_path):
    """A scikit-learn model, as MLflow saves one, that raises on 13, which its signature cannot forbid."""
    import cloudpickle
    import numpy as np
    import yaml
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    namespace: dict = {"__name__": "__main__"}
    code = "def touchy(rows):\n    if (rows == 13).any():\n        raise ValueError('13')\n    return rows\n"
    exec(code, namespace)
    rows = np.arange(10.0).reshape(-1, 1)
    model = make_pipeline(FunctionTransformer(namespace["touchy"]), LinearRegression()).fit(rows, rows[:, 0])
    folder = tmp_path / "touchy"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 1]}}
    document = {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"},
            "sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"},
        },
        "signature": {"inputs": json.dumps([tensor]), "outputs": None, "params": None},
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


def test_requests_the_model_itself_fails_on_harm_no_request_beside_them(run_endpoint, touchy_model):
    process = run_endpoint("--model", str(touchy_model), "--allow-pickle")
    good, bad = [], []
    end = time.monotonic() + 2

    def client(value: float, statuses: list[int]) -> None:
        connection = process.connect()
        while time.monotonic() < end:
            connection.request("POST", "/v1/models/flights:predict", json.dumps({"instances": [[value]]}))
            response = connection.getresponse()
            document = json.loads(response.read())
            statuses.append(response.status)
            assert response.status != 200 or abs(document["predictions"][0] - value) < 1e-6

    threads = [threading.Thread(target=client, args=(float(n), good)) for n in range(12)]
    threads += [threading.Thread(target=client, args=(13.0, bad)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert set(good) == {200}
    assert len(good) > 100
    assert set(bad) == {400}
