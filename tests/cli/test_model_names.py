"""How commands name a model, through the real command line and the real MLflow client."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LOG = """
import json, sys
import mlflow, pandas as pd
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
with mlflow.start_run() as run:
    made = mlflow.sklearn.log_model(
        LogisticRegression().fit(rows, [0, 0, 1, 1]), name="model", input_example=rows, serialization_format="skops",
        registered_model_name="steps", pip_requirements=[],
    )
print(json.dumps({"run": run.info.run_id, "model": made.model_id}))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Run a command of the project; stop it at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mainspring", "--project", str(tmp_path), *arguments]
        running.append(subprocess.Popen(command, cwd=tmp_path))
        return running[-1]

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(state: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 90
    while not state.exists():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.05)
    return int(json.loads(state.read_bytes())["url"].rpartition(":")[2])


def test_a_model_is_served_by_its_run_by_its_id_and_by_its_version(start: Callable, tmp_path: Path) -> None:
    server = start("server", "--port", "0")
    port = wait_for(tmp_path / ".mainspring" / "server.json", server)
    logged = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOG, f"http://127.0.0.1:{port}"], capture_output=True, check=True
    )
    ids = json.loads(logged.stdout.splitlines()[-1])
    for number, uri in enumerate((f"runs:/{ids['run']}/model", f"models:/{ids['model']}", "models:/steps/1")):
        log = tmp_path / f"log-{number}"
        endpoint = start("serve", "--model", uri, "--name", "steps", "--port", "0", "--log", str(log))
        connection = http.client.HTTPConnection("127.0.0.1", wait_for(log / "endpoint.json", endpoint), timeout=60)
        connection.request("POST", "/invocations", json.dumps({"instances": [[0.0], [3.0]]}))
        assert json.loads(connection.getresponse().read()) == {"predictions": [0, 1]}
        connection.close()


def test_a_run_without_that_model_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mainspring.yaml").write_text("project: p\n")
    command = [sys.executable, "-m", "mainspring", "--project", str(tmp_path), "serve", "--model"]
    for uri, words in (
        ("runs:/0123456789abcdef0123456789abcdef/model", "Run with id=0123456789abcdef0123456789abcdef not found"),
        ("s3://bucket/model", "is not read from"),
        ("models:/nobody/1", "nobody"),
    ):
        done = subprocess.run([*command, uri], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr
