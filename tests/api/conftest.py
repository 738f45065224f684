"""A real server in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import Store, open_store

SCRIPT = """
import sys
from pathlib import Path
from mainspring.api import run_server
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import open_store
import json
settings = resolve_settings(Path(sys.argv[1]), flags={"port": 0, "actor": "tester", **json.loads(sys.argv[2])})
store = open_store(settings, Project(project="test"))
run_server(store)
store.close()
"""


@dataclass
class Server:
    """A server process that can be killed and started again on the same folder."""

    folder: Path
    flags: dict[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def state(self) -> Path:
        return self.folder / ".mainspring" / "server.json"

    def start(self) -> Server:
        self.state.unlink(missing_ok=True)
        self.process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(self.folder), json.dumps(self.flags)])
        deadline = time.monotonic() + 60
        while not self.state.exists():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        self.url = json.loads(self.state.read_bytes())["url"]
        return self

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def call(self, method: str, path: str, body: object = None, *, raw: bytes | None = None, **headers: str):
        """Return status, headers and decoded body of one request."""
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, found, content = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, found, content = error.code, error.headers, error.read()
        return status, found, json.loads(content) if "json" in found.get("content-type", "") else content

    def mlflow(self, method: str, path: str, body: object = None, *, raw: bytes | None = None):
        """Return status and body of an MLflow call."""
        status, _, found = self.call(method, "/api/2.0/mlflow/" + path, body, raw=raw)
        return status, found

    def new_run(self) -> str:
        return self.mlflow("POST", "runs/create", {"experiment_id": "0", "tags": []})[1]["run"]["info"]["run_id"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server that the tests of this folder share."""
    started = Server(tmp_path_factory.mktemp("server")).start()
    yield started
    if started.process is not None and started.process.poll() is None:
        assert started.stop() == 0


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test, not started yet."""
    made = Server(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture
def server_store(server: Server) -> Iterator[Store]:
    """The store of the shared server, opened beside it."""
    store = open_store(resolve_settings(server.folder), Project(project="test"))
    yield store
    store.close()


@pytest.fixture
def mlflow_client(server: Server):
    """The real client's module, pointed to the shared server."""
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
        MLFLOW_HTTP_REQUEST_TIMEOUT="10",
        GIT_PYTHON_REFRESH="quiet",
    )
    import mlflow

    mlflow.set_tracking_uri(server.url)
    return mlflow
