"""Models of public data, served by the real command line, for the public clients."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Endpoint:
    """A running ``mainspring serve``."""

    def __init__(self, folder: Path, model: Path, name: str, *flags: str, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder / "state"
        self.errors = (folder / "stderr.txt").open("wb")
        command = [str(Path(sys.executable).with_name("mainspring")), "serve", "--model", str(model), "--name", name]
        command += ["--port", "0", "--log", str(self.folder), "--home", str(folder / "home"), *flags]
        self.process = subprocess.Popen(command, stderr=self.errors, cwd=folder, env={**os.environ, **variables})
        self.url = self._wait()
        self.address = self.url.removeprefix("http://")
        self.port = int(self.url.rpartition(":")[2])

    def _wait(self) -> str:
        import json

        end = time.monotonic() + 90
        while time.monotonic() < end and self.process.poll() is None:
            try:
                url = json.loads((self.folder / "endpoint.json").read_bytes())["url"]
                with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as response:
                    if response.status == 200:
                        return str(url)
            except OSError:
                time.sleep(0.05)
        raise AssertionError(Path(self.errors.name).read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.errors.close()


@pytest.fixture(scope="session")
def cancer():
    """The breast cancer data and a model of it: 30 numbers in, one class out."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame, classes = load_breast_cancer(as_frame=True, return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(frame, classes)
    return frame, model


@pytest.fixture(scope="session")
def cancer_model(cancer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    frame, model = cancer
    folder = tmp_path_factory.mktemp("models") / "cancer"
    mlflow.sklearn.save_model(model, folder, signature=infer_signature(frame, model.predict(frame)))
    return folder


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Endpoint]]:
    """Start endpoints; they are stopped at the end."""
    started: list[Endpoint] = []

    def run(model: Path, name: str, *flags: str, **variables: str) -> Endpoint:
        started.append(Endpoint(tmp_path_factory.mktemp("endpoint"), model, name, *flags, **variables))
        return started[-1]

    yield run
    for endpoint in started:
        endpoint.stop()


@pytest.fixture(scope="session")
def endpoint(serve, cancer_model) -> Endpoint:
    return serve(cancer_model, "cancer")
