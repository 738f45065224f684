"""The server process: start, stop, kill, events."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from mainspring.api.guard import check_binding
from mainspring.api.server import bind
from mainspring.core import Refused, Unavailable
from mainspring.core.settings import Settings
from mainspring.lineage import record_event


@pytest.mark.parametrize("round", range(2))
def test_kill_loses_no_acknowledged_metric(own_server, round: int) -> None:
    server = own_server.start()
    run_ids = [server.new_run() for _ in range(4)]
    acknowledged: list[tuple[str, str, int]] = []
    stop = threading.Event()

    def hammer(run_id: str, batches: bool) -> None:
        step = 0
        while not stop.is_set():
            step += 1
            point = {"key": "m", "value": step, "timestamp": step, "step": step}
            try:
                if batches:
                    body = {"run_id": run_id, "metrics": [{**point, "key": f"m{number}"} for number in range(20)]}
                    status, _ = server.mlflow("POST", "runs/log-batch", body)
                else:
                    status, _ = server.mlflow("POST", "runs/log-metric", {"run_id": run_id, **point})
            except (OSError, ValueError, http.client.HTTPException):  # the kill
                return
            assert status == 200
            acknowledged.append((run_id, "m7" if batches else "m", step))

    threads = [threading.Thread(target=hammer, args=(id, position % 2 == 1)) for position, id in enumerate(run_ids)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()
    server.start()
    assert len(acknowledged) > 50
    for run_id in run_ids:
        for key in {key for id, key, _ in acknowledged if id == run_id}:
            history = server.mlflow("GET", f"metrics/get-history?run_id={run_id}&metric_key={key}")[1]["metrics"]
            found = {point["step"] for point in history}
            assert {step for id, _, step in acknowledged if id == run_id} <= found
            assert len(found) == len(history)


def test_concurrent_writers_are_all_served(server) -> None:
    run_id = server.new_run()
    statuses: list[int] = []

    def log(worker: int) -> None:
        for step in range(25):
            body = {"run_id": run_id, "key": f"w{worker}", "value": step, "timestamp": step, "step": step}
            statuses.append(server.mlflow("POST", "runs/log-metric", body)[0])

    threads = [threading.Thread(target=log, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 200
    metrics = server.mlflow("GET", f"runs/get?run_id={run_id}")[1]["run"]["data"]["metrics"]
    assert {metric["key"]: metric["value"] for metric in metrics} == {f"w{number}": 24.0 for number in range(8)}


def test_state_file_names_the_server_and_goes_with_it(own_server) -> None:
    server = own_server.start()
    assert json.loads(server.state.read_bytes()) == {"url": server.url, "pid": server.process.pid}
    assert server.stop() == 0
    assert not server.state.exists()


def test_answers_are_not_delayed_by_nagle(server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(20):
            started = time.perf_counter()
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.recv(4096)
            times.append(time.perf_counter() - started)
    assert sorted(times)[10] < 0.03


def test_port_in_use_is_said_with_the_port() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"Port {port}"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])
def test_open_binding_needs_a_token(host: str) -> None:
    with pytest.raises(Refused, match="token"):
        check_binding(Settings(), host)
    check_binding(Settings(token="t"), host)


def test_events_are_paged_and_streamed(server, server_store) -> None:
    server.mlflow("POST", "registered-models/create", {"name": "streamed"})
    page = server.call("GET", "/api/v1/events?limit=1000")[2]
    with urllib.request.urlopen(f"{server.url}/api/v1/events/stream?after={page['next']}", timeout=30) as stream:
        with server_store.database.write() as connection:
            id = record_event(connection, server_store.clock, "alert.raised", source="test", subject="x", data={"a": 1})
        lines = []
        while not lines or not lines[-1].startswith(b"data:"):
            lines.append(stream.readline())
    event = json.loads(lines[-1].removeprefix(b"data: "))
    assert (event["id"], event["type"], event["data"]) == (id, "alert.raised", {"a": 1})
    after = server.call("GET", f"/api/v1/events?after={page['next']}&type=alert")[2]
    assert [found["id"] for found in after["events"]] == [id]
    assert server.call("GET", "/api/v1/events?limit=0")[0] == 400
    assert server.call("GET", "/api/v1/events?after=x")[0] == 400


def test_server_imports_nothing_heavy() -> None:
    heavy = ("polars", "pandas", "mlflow", "kfp", "numpy", "pyarrow", "alembic", "sqlalchemy", "prometheus_client")
    code = f"import sys, mainspring.api; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert done.stdout.strip() == "[]"


def test_a_server_that_only_takes_metrics_stays_small(own_server) -> None:
    server = own_server.start()
    run_id = server.new_run()
    server.mlflow("POST", "runs/log-metric", {"run_id": run_id, "key": "m", "value": 1, "timestamp": 1})
    assert server.mlflow("GET", f"metrics/get-history?run_id={run_id}&metric_key=m")[0] == 200
    assert "sqlalchemy" not in Path(f"/proc/{server.process.pid}/maps").read_text()
    assert server.mlflow("POST", "runs/search", {"experiment_ids": ["0"]})[1]["runs"][0]["info"]["run_id"] == run_id
    assert "sqlalchemy" in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_requests_are_counted_by_route(own_server) -> None:
    server = own_server.start()
    for _ in range(3):
        server.new_run()
    server.mlflow("GET", "runs/get?run_id=unknown")
    text = server.call("GET", "/metrics")[2].decode()
    created, missed = 'method="POST",route="/api/2.0/mlflow/runs/create"', 'route="/api/2.0/mlflow/runs/get"'
    assert f'mainspring_http_requests_total{{code="200",{created}}} 3.0' in text
    assert f'mainspring_http_requests_total{{code="404",method="GET",{missed}}} 1.0' in text
    assert 'mainspring_http_request_seconds_bucket{le="+Inf",route="/api/2.0/mlflow/runs/create"} 3.0' in text
    assert 'mainspring_http_request_seconds_count{route="/api/2.0/mlflow/runs/create"} 3.0' in text
