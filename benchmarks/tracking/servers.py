"""The servers that are compared: how each is started, on a folder of its own, and what its process tree has used."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

ENVS = Path(os.environ.get("MAINSPRING_BENCH_ENVS", Path.home() / ".cache" / "mainspring-bench"))


@dataclass(frozen=True)
class Peer:
    """A server: the command that starts it on a folder and a port, or why it cannot be started here."""

    name: str
    command: Callable[[Path, int], list[str]]
    missing: str = ""


def peers() -> dict[str, Peer]:
    """Return the three servers; those that are not installed say how to install them."""
    python = ENVS / "mlflow" / "bin" / "python"
    mlflow = [str(python), "-m", "mlflow"] if python.exists() else [sys.executable, "-m", "mlflow"]
    has_mlflow = python.exists() or _imports("mlflow.server")
    fml = ENVS / "fasttrackml" / "bin" / "fml"
    return {
        "mainspring": Peer("mainspring", _mainspring),
        "mlflow": Peer(
            "mlflow",
            lambda folder, port: [*mlflow, *_mlflow(folder, port)],
            "" if has_mlflow else f"uv venv {ENVS}/mlflow && uv pip install --python {ENVS}/mlflow mlflow",
        ),
        "fasttrackml": Peer(
            "fasttrackml",
            lambda folder, port: [str(fml), *_fasttrackml(folder, port)],
            ""
            if fml.exists()
            else f"uv venv {ENVS}/fasttrackml && uv pip install --python {ENVS}/fasttrackml fasttrackml==0.6.0",
        ),
    }


def _imports(name: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def _mainspring(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "mainspring", "--home", str(folder / "home"), "--port", str(port), "server"]


def _mlflow(folder: Path, port: int) -> list[str]:
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    return ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store]


def _fasttrackml(folder: Path, port: int) -> list[str]:
    store = ["--database-uri", f"sqlite://{folder}/fml.db", "--default-artifact-root", f"{folder}/artifacts"]
    return ["server", "--listen-address", f"127.0.0.1:{port}", "--log-level", "error", *store]


class Server:
    """A running server."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.peer, self.folder = peer, folder
        self.port = _free_port()
        self.log = (folder / "log.txt").open("ab")
        environment = {
            **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }  # fmt: skip
        started = time.perf_counter()
        self.process = psutil.Popen(
            peer.command(folder, self.port), cwd=folder, stdout=self.log, stderr=self.log, env=environment
        )
        self._wait()
        self.start_wall = time.perf_counter() - started
        self.start_cpu = self.cpu()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.peer.name} did not start: see {self.log.name}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.005)

    def tree(self) -> list[psutil.Process]:
        """Return its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """Return the CPU seconds of the process tree, those of children that have ended included."""
        total = 0.0
        for process in self.tree():
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory(self) -> tuple[float, int]:
        """Return the resident memory in MiB and the number of processes."""
        tree = self.tree()
        return sum(process.memory_info().rss for process in tree) / 2**20, len(tree)

    def stop(self) -> None:
        """End it, and what it started."""
        tree = self.tree()
        self.process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=10)
        for process in alive:
            process.kill()
        self.log.close()

    def connect(self) -> Connection:
        """Open a connection that is kept alive."""
        return Connection(self.port)


class Connection:
    """One client of a server: JSON over a connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: object) -> Any:
        """Send a document and return the answer."""
        return self._call("POST", path, msgspec.json.encode(body))

    def get(self, path: str) -> Any:
        """Return the answer to a query."""
        return self._call("GET", path, None)

    def _call(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, f"/api/2.0/mlflow/{path}", body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:300]!r}")
        return msgspec.json.decode(content)


@contextmanager
def running(peer: Peer, folder: Path):
    """Run a server for as long as the block lasts."""
    server = Server(peer, folder)
    try:
        yield server
    finally:
        server.stop()


def fill_mlflow(folder: Path, runs: int, experiment: str) -> None:
    """Write runs into MLflow's SQLite file: through its API it would take minutes."""
    connection = sqlite3.connect(folder / "mlflow.db", timeout=60)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
    assert {"run_uuid", "name", "start_time", "lifecycle_stage"} <= columns
    from operations import sample_run

    rows, metrics, latest, params, tags = [], [], [], [], []
    for number in range(runs):
        id = f"{number:032x}"
        sample = sample_run(number)
        start = sample["start_time"]
        rows.append(
            (
                id,
                sample["run_name"],
                "LOCAL",
                "bench",
                "FINISHED",
                start,
                "active",
                int(experiment),
                "mlflow-artifacts:/x",
            )
        )
        for metric in sample["metrics"]:
            metrics.append((metric["key"], metric["value"], metric["timestamp"], id, metric["step"], 0))
            latest.append((metric["key"], metric["value"], metric["timestamp"], metric["step"], 0, id))
        params += [(param["key"], param["value"], id) for param in sample["params"]]
        tags += [
            (tag["key"], tag["value"], id)
            for tag in [*sample["tags"], {"key": "mlflow.runName", "value": sample["run_name"]}]
        ]
    many = connection.executemany
    many(
        "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, lifecycle_stage, experiment_id, "
        "artifact_uri) VALUES (?,?,?,?,?,?,?,?,?)",
        rows,
    )
    many("INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?,?,?,?,?,?)", metrics)
    many("INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?,?,?,?,?,?)", latest)
    many("INSERT INTO params (key, value, run_uuid) VALUES (?,?,?)", params)
    many("INSERT INTO tags (key, value, run_uuid) VALUES (?,?,?)", tags)
    connection.commit()
    connection.close()


def fresh_folder(base: Path, name: str) -> Path:
    """Make an empty folder."""
    folder = base / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
