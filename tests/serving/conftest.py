"""A model trained once, and real endpoint processes around it."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import settings

from mainspring.core import FixedClock
from mainspring.features import CategoricalColumn, NumericColumn, Transform
from mainspring.serving import Deployment, ModelReference, Variant, write_deployment
from mainspring.serving.app import App, AppOptions
from mainspring.serving.endpoint import Endpoint, EndpointOptions
from mainspring.serving.http import Request
from mainspring.serving.mlmodel import tree_digest
from mainspring.serving.wire import Reply

# A shared machine stalls now and then; how long one example takes says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

T = TypeVar("T")
INPUTS = [
    {"name": "carrier", "type": "string", "required": True},
    {"name": "engine", "type": "string", "required": False},
    {"name": "month", "type": "long", "required": True},
    {"name": "distance", "type": "double", "required": True},
    {"name": "temp", "type": "double", "required": False},
]


def _write_model(folder: Path, seed: int) -> Path:
    import lightgbm

    generator = np.random.default_rng(seed)
    transform = Transform(
        columns=(
            NumericColumn(name="month"),
            NumericColumn(name="distance"),
            NumericColumn(name="temp"),
            CategoricalColumn(name="carrier", categories=("AA", "B6", "UA")),
            CategoricalColumn(name="engine", categories=("jet", "turbo")),
        )
    )
    numbers = [generator.integers(1, 13, 2000), generator.random(2000) * 3000, generator.random(2000) * 90]
    codes = [generator.integers(0, 3, 2000), generator.integers(0, 2, 2000)]
    matrix = np.column_stack([*numbers, *codes]).astype(float)
    late = (matrix[:, 1] / 3000 + matrix[:, 3] / 3 + generator.random(2000) > 1.4).astype(float)
    data = lightgbm.Dataset(matrix, late, categorical_feature=transform.categorical_indices)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1, "seed": seed}, data, 30)
    inside = folder / "data" / "flights"
    inside.mkdir(parents=True)
    booster.save_model(inside / "booster.txt")
    (inside / "transform.json").write_bytes(transform.to_json())
    flavor = {
        "loader_module": "mainspring.serving.pyfunc",
        "data": "data/flights",
        "env": {"virtualenv": "python_env.yaml"},
    }
    document = {
        "flavors": {"python_function": flavor},
        "signature": {"inputs": json.dumps(INPUTS), "outputs": None, "params": None},
        "model_uuid": f"m-{seed}",
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_model(tmp_path_factory.mktemp("model-1"), 1)


@pytest.fixture(scope="session")
def other_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_model(tmp_path_factory.mktemp("model-2"), 2)


@pytest.fixture
def rows() -> list[dict[str, object]]:
    return [
        {"carrier": "UA", "engine": "jet", "month": 1, "distance": 1400.0, "temp": 39.0},
        {"carrier": "B6", "engine": None, "month": 7, "distance": 200, "temp": None},
        {"carrier": "ZZ", "engine": "turbo", "month": 12, "distance": 2900.5, "temp": 12.5},
    ]


def _reference(folder: Path, version: str) -> ModelReference:
    return ModelReference(name="flights-delay", version=version, digest=tree_digest(folder), folder=str(folder))


@pytest.fixture
def deploy(model_folder: Path, other_model_folder: Path) -> Callable[..., Deployment]:
    """Write a deployment: ``deploy(folder, revision, champion=(weight, mirror, version), …)``."""

    def write(folder: Path, revision: int = 1, **variants: tuple[int, bool, str]) -> Deployment:
        folders = {"1": model_folder, "2": other_model_folder}
        deployment = Deployment(
            endpoint="flights",
            revision=revision,
            variants=[
                Variant(name=name, weight=weight, mirror=mirror, model=_reference(folders[version], version))
                for name, (weight, mirror, version) in (variants or {"champion": (100, False, "1")}).items()
            ],
        )
        write_deployment(folder / "deployment.json", deployment)
        return deployment

    return write


class Client:
    """Calls an application in process; the event loop goes on between requests."""

    def __init__(self, endpoint: Endpoint, options: AppOptions) -> None:
        self.endpoint = endpoint
        self.app = App(endpoint, options)
        self._runner = asyncio.Runner()

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        """Send one request, run the shadows, and return the reply."""
        pairs = {name.lower().encode(): value.encode() for name, value in (headers or {}).items()}
        return self.run(self._request(Request(method, path, pairs, body)))

    def post(self, path: str, document: object, **headers: str) -> Reply:
        return self.request(
            "POST", path, msgspec.json.encode(document), {k.replace("_", "-"): v for k, v in headers.items()}
        )

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the application's event loop."""
        return self._runner.run(work)

    async def send(self, path: str, document: object, **headers: str) -> Reply:
        """Send one request from within the event loop, to share a turn with others."""
        pairs = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.app.handle(Request("POST", path, pairs, msgspec.json.encode(document)), future.set_result)
        return await future

    async def _request(self, request: Request) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.app.handle(request, future.set_result)
        reply = await future
        await self.endpoint.finish(5)
        return reply


@pytest.fixture
def make_client(tmp_path: Path, deploy: Callable[..., Deployment], clock: FixedClock) -> Callable[..., Client]:
    """Make an application over a fresh endpoint folder: ``make_client(champion=(100, False, "1"), …)``."""

    def make(
        options: AppOptions | None = None, settings: EndpointOptions | None = None, **variants: tuple[int, bool, str]
    ) -> Client:
        deploy(tmp_path, 1, **variants)
        endpoint = Endpoint("flights", tmp_path, clock, settings)
        endpoint.reload()
        assert endpoint.error == ""
        return Client(endpoint, options or AppOptions())

    return make


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


class Process:
    """A real endpoint process."""

    def __init__(self, folder: Path, *flags: str) -> None:
        (folder / "endpoint.json").unlink(missing_ok=True)
        self.folder = folder
        self.errors = (folder / "stderr.txt").open("wb")
        command = [sys.executable, "-m", "mainspring.serving", "--endpoint", "flights", "--folder", str(folder)]
        self.process = subprocess.Popen([*command, "--port", "0", *flags], stderr=self.errors)
        self.port = self._wait_for_port()

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                document = json.loads((self.folder / "endpoint.json").read_bytes())
                return int(document["url"].rpartition(":")[2])
            except FileNotFoundError:
                time.sleep(0.02)
        raise AssertionError((self.folder / "stderr.txt").read_text())

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def get(self, path: str) -> tuple[int, bytes]:
        connection = self.connect()
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()


@pytest.fixture
def run_endpoint(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start endpoint processes over ``tmp_path``; they are killed at the end of the test."""
    started: list[Process] = []

    def run(*flags: str) -> Process:
        started.append(Process(tmp_path, *flags))
        return started[-1]

    yield run
    for process in started:
        process.stop()


class Load:
    """Keep-alive clients that send one-row requests until they are told to stop or the server is gone."""

    def __init__(self, process: Process, clients: int) -> None:
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self.versions: set[str] = set()
        self.body = msgspec.json.encode(
            {"instances": [{"carrier": "UA", "engine": "jet", "month": 1, "distance": 1.5, "temp": None}]}
        )
        self.stopping = threading.Event()
        self._process = process
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _client(self) -> None:
        connection = self._process.connect()
        while not self.stopping.is_set():
            try:
                connection.request("POST", "/v1/models/flights:predict", self.body)
                response = connection.getresponse()
                response.read()
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                return
            if response.status != 200:
                self.failures.append(str(response.status))
                return
            self.acknowledged.append(response.headers["x-request-id"])
            self.versions.add(response.headers["x-model-version"])


@pytest.fixture
def load() -> type[Load]:
    return Load


@pytest.fixture
def copy_model(model_folder: Path, tmp_path: Path) -> Path:
    """Make a copy of the model that a test may damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "copied-model"))
