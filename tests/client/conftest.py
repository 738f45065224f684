"""A real server in a process of its own, and programs that log to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mainspring.client import Client

SCRIPT = """
import sys
from pathlib import Path
from mainspring.api import run_server
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import open_store
settings = resolve_settings(Path(sys.argv[1]), flags={"port": int(sys.argv[2]), "actor": "tester"})
store = open_store(settings, Project(project="test"))
run_server(store)
store.close()
"""


@dataclass
class Server:
    """A server process that can be killed and started again on the same folder."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    port: int = 0

    @property
    def home(self) -> Path:
        return self.folder / ".mainspring"

    def start(self) -> Server:
        state = self.home / "server.json"
        state.unlink(missing_ok=True)
        self.process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(self.folder), str(self.port)])
        deadline = time.monotonic() + 90
        while not state.exists():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        self.url = json.loads(state.read_bytes())["url"]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def read(self) -> Client:
        return Client(self.url)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server that the tests of a module share."""
    started = Server(tmp_path_factory.mktemp("server")).start()
    yield started
    started.kill()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test, not started yet."""
    made = Server(tmp_path)
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MAINSPRING_", "MLFLOW_")) and "LONG" not in name:
            monkeypatch.delenv(name)


def start_program(code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a program that logs."""
    environment = {**os.environ, **variables, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def program() -> Callable[..., subprocess.Popen[str]]:
    """Start a program that logs."""
    return start_program
