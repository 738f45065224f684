"""The real MLflow client against two servers: ours, and (with MAINSPRING_CONFORMANCE=both) a real ``mlflow server``.

What passes against both is MLflow's behaviour, not our idea of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BIN = Path(sys.executable).parent
CLIENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
SERVER = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_WEBHOOK_CACHE_TTL": "0",
    "MAINSPRING_TEST_RESET": "1",
}
SERVERS = ["mainspring", "mlflow"] if os.environ.get("MAINSPRING_CONFORMANCE") == "both" else ["mainspring"]


@dataclass(frozen=True)
class Server:
    """A running server and how to talk to it without the client."""

    kind: str
    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def is_ours(self) -> bool:
        return self.kind == "mainspring"

    def call(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> tuple[int, Any]:
        """Return status and decoded answer of one request; a path without ``/`` is one of the 2.0 API."""
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        full = path if path.startswith("/") else f"/api/2.0/mlflow/{path}"
        request = urllib.request.Request(self.url + full, data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        with contextlib.suppress(ValueError):
            return status, json.loads(content) if content else {}
        return status, content


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def command(kind: str, folder: Path, port: int, *extra: str) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(port)]
    if kind == "mainspring":
        return [str(BIN / "mainspring"), "server", *where, "--home", str(folder / "home"), *extra]
    database = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    place = [] if "--artifacts-destination" in extra else ["--artifacts-destination", str(folder / "artifacts")]
    given = ["--default-artifact-root" if word == "--artifact-root" else word for word in extra]
    return [str(BIN / "mlflow"), "server", *where, "--workers", "1", *database, *place, *given]


@contextlib.contextmanager
def running(kind: str, folder: Path, *extra: str, port: int = 0, **variables: str) -> Iterator[Server]:
    """Run a server until the block ends; ours has to end well on SIGTERM."""
    port = port or free_port()
    with (folder / f"{kind}.log").open("wb") as log:
        environment = {**os.environ, **SERVER, **variables}
        process = subprocess.Popen(
            command(kind, folder, port, *extra), env=environment, cwd=folder, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    server = Server(kind, f"http://127.0.0.1:{port}", process, folder)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (folder / f"{kind}.log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            with contextlib.suppress(OSError):
                if server.call("GET", "/health")[0] == 200:
                    break
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        try:
            code = process.wait(timeout=20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if kind == "mainspring":
        assert code == 0


@pytest.fixture(scope="session", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Whose server it is: ours or MLflow's own."""
    return str(request.param)


@pytest.fixture(scope="session")
def launch() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """A way to run a server of a test's own."""
    return running


@pytest.fixture(scope="session")
def server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(kind, tmp_path_factory.mktemp(kind)) as found:
        yield found


@pytest.fixture
def mlflow(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The client's module, pointed to the server."""
    os.environ.update(CLIENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    import mlflow as module

    module.set_tracking_uri(server.url)
    module.set_registry_uri(server.url)
    yield module
    while module.active_run():
        module.end_run()


@pytest.fixture
def client(mlflow: ModuleType) -> Any:
    return mlflow.MlflowClient()


@pytest.fixture
def name() -> str:
    """A name nobody has used."""
    return f"n{uuid.uuid4().hex[:12]}"


@pytest.fixture
def experiment(mlflow: ModuleType, name: str) -> str:
    """A new experiment, the current one."""
    return str(mlflow.set_experiment(name).experiment_id)
