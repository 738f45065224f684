"""A real mlflow server with real data, and stores of ours to take it over."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import Store, open_store

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
os.environ.update(QUIET)
LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"


@dataclass
class MlflowServer:
    """An unmodified mlflow server on a folder: its database and its artifacts."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "mlartifacts"

    @property
    def empty_database(self) -> Path:
        """A copy of the database from before anything was logged: MLflow's own tables."""
        return self.folder / "empty.db"

    def start(self) -> MlflowServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.artifacts)]
        with (self.folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder)
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "mlflow server did not start"
            time.sleep(0.2)
        return self

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextlib.contextmanager
def pointed_to(uri: str) -> Iterator[None]:
    """Point MLflow's client to a store, whatever other tests of this process have pointed it to."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def fill(client: Any, folder: Path) -> dict[str, Any]:
    """Log something of every kind through MLflow's own client."""
    with pointed_to(client.tracking_uri):
        return log_everything(client, folder)


def log_everything(client: Any, folder: Path) -> dict[str, Any]:
    """Log runs with all there is to log, models, versions, aliases, and what is deleted."""
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelInput,
        LoggedModelOutput,
        Metric,
        Param,
        RunTag,
    )

    experiment = client.create_experiment("flights", tags={"team": "delays"})
    run = client.create_run(experiment, run_name="one", tags={"note": "multi\nline ünïcode"}).info.run_id
    metrics = [Metric("loss", 1.0 / step, 1000 + step, step) for step in range(1, 1001)]
    metrics[500] = Metric("loss", float("nan"), 1501, 501)
    client.log_batch(run, metrics=metrics, params=[Param("lr", "0.1"), Param("empty", ""), Param("long", "x" * 6000)])
    client.log_batch(
        run,
        metrics=[Metric("up", float("inf"), 1, 0), Metric("down", float("-inf"), 1, 0), Metric("a/b", 1.0, 5, -3)],
        tags=[RunTag("k", "v")],
    )
    dataset = Dataset("flights", "abc123", "local", '{"uri": "x"}', schema='{"a": 1}', profile='{"rows": 3}')
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    model = client.create_logged_model(
        experiment, name="late", source_run_id=run, params={"depth": "3"}, tags={"kind": "tree"}, model_type="sklearn"
    )
    client.log_metric(run, "auc", 0.75, model_id=model.model_id, dataset_name="flights", dataset_digest="abc123")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 7)])
    files = folder / "model"
    (files / "data").mkdir(parents=True)
    (files / "MLmodel").write_text('flavors: {}\nsignature:\n  inputs: \'[{"type": "double", "name": "x"}]\'\n')
    (files / "data" / "weights.bin").write_bytes(bytes(range(256)) * 100)
    client.log_model_artifacts(model.model_id, str(files))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_artifacts(run, str(files), "copy")
    client.log_text(run, "hello", "notes/a file.txt")
    client.set_terminated(run, "FINISHED", end_time=99_000)
    child = client.create_run(experiment, tags={"mlflow.parentRunId": run}).info.run_id
    client.log_inputs(child, models=[LoggedModelInput(model.model_id)])
    client.set_terminated(child, "FAILED")
    deleted = client.create_run("0").info.run_id
    client.delete_run(deleted)
    gone = client.create_experiment("gone")
    client.delete_experiment(gone)
    client.create_registered_model("delays", tags={"owner": "a"}, description="of flights")
    for source, id in ((f"models:/{model.model_id}", model.model_id), (f"runs:/{run}/copy", None)):
        tags = {"from": source[:5]}
        client.create_model_version("delays", source, run_id=run, tags=tags, description="d", model_id=id)
    client.delete_model_version("delays", client.create_model_version("delays", f"runs:/{run}/copy", run).version)
    client.create_model_version("delays", f"runs:/{run}/copy", run)
    client.set_registered_model_alias("delays", "champion", "2")
    client.set_registered_model_alias("delays", "challenger", "4")
    client.transition_model_version_stage("delays", "1", "Archived")
    return {"experiment": experiment, "run": run, "child": child, "deleted": deleted, "model": model.model_id}


@dataclass
class MlflowData:
    """Data that MLflow itself wrote: through its server with MAINSPRING_LONG_TESTS=1, else through its store alone."""

    folder: Path
    uri: str
    """Where MLflow's client finds it."""
    database: str
    empty_database: Path
    artifacts: Path
    known: dict[str, Any]


@pytest.fixture(scope="session")
def mlflow_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowData]:
    """One store of MLflow's, filled once."""
    pytest.importorskip("mlflow.server", reason="the full mlflow is not installed")
    from mlflow import MlflowClient

    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        uri = server.start().url if LONG else server.database
        server.folder.mkdir(exist_ok=True)
        with contextlib.chdir(server.folder):  # MLflow's default place for artifacts is below the current folder
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.get_experiment("0")
            shutil.copy(server.folder / "mlflow.db", server.empty_database)
            known = fill(client, server.folder)
        artifacts = server.artifacts if LONG else server.folder / "mlruns"
        yield MlflowData(server.folder, uri, server.database, server.empty_database, artifacts, known)
    finally:
        server.stop()


@pytest.fixture
def new_mlflow_server(tmp_path: Path) -> Iterator[Callable[[], MlflowServer]]:
    """Make another server, not started."""
    made: list[MlflowServer] = []

    def make() -> MlflowServer:
        server = MlflowServer(tmp_path / f"second{len(made)}")
        server.folder.mkdir()
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Make an empty store of ours."""
    made: list[Store] = []

    def make(database: str = "") -> Store:
        folder = tmp_path / f"project{len(made)}"
        folder.mkdir()
        flags = {"actor": "tester", "database": database or None}
        made.append(open_store(resolve_settings(folder, flags=flags), Project(project="test")))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def postgresql_url(postgresql_server: Any) -> Iterator[str]:
    """The address of an empty, migrated PostgreSQL database."""
    name = f"test_{os.urandom(6).hex()}"
    postgresql_server.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    yield postgresql_server.url_of(name)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def fill_mlflow() -> Callable[[Any, Path], dict[str, Any]]:
    """Log something of every kind through MLflow's client."""
    return fill
