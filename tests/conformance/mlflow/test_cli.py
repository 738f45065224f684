"""MLflow's command line and ``mlflow run`` of a local project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner


def run(*words: str) -> str:
    from mlflow.cli import cli

    result = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_experiments_and_runs_from_the_command_line(mlflow: Any, client: Any, name: str, tmp_path: Path) -> None:
    run("experiments", "create", "--experiment-name", name)
    id = client.get_experiment_by_name(name).experiment_id
    run("experiments", "rename", "--experiment-id", id, "--new-name", name + "x")
    assert name + "x" in run("experiments", "search")
    run("experiments", "delete", "-x", id)
    assert client.get_experiment(id).lifecycle_stage == "deleted"
    run("experiments", "restore", "-x", id)
    made = client.create_run(id, run_name="from-cli").info.run_id
    assert "from-cli" in run("runs", "list", "--experiment-id", id)
    assert json.loads(run("runs", "describe", "--run-id", made))["info"]["run_name"] == "from-cli"
    (tmp_path / "a.txt").write_text("hello")
    run("artifacts", "log-artifact", "--local-file", str(tmp_path / "a.txt"), "--run-id", made)
    assert "a.txt" in run("artifacts", "list", "--run-id", made)
    run("runs", "delete", "--run-id", made)
    assert client.get_run(made).info.lifecycle_stage == "deleted"
    run("runs", "restore", "--run-id", made)
    assert client.get_run(made).info.lifecycle_stage == "active"


IS_LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1" or os.environ.get("MAINSPRING_CONFORMANCE") == "both"
PROJECT = """
name: tiny
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
    command: "PYTHON train.py {alpha}"
"""
TRAIN = """
import sys
import mlflow
with mlflow.start_run():
    mlflow.log_metric("score", float(sys.argv[1]) * 2)
    mlflow.log_text("done", "out.txt")
"""


@pytest.mark.skipif(not IS_LONG, reason="MAINSPRING_LONG_TESTS=1 runs it")
def test_a_local_project_runs(mlflow: Any, client: Any, experiment: str, server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "MLproject").write_text(PROJECT.replace("PYTHON", sys.executable))
    (folder / "train.py").write_text(TRAIN)
    command = [
        str(Path(sys.executable).parent / "mlflow"),
        "run",
        str(folder),
        "--env-manager",
        "local",
        "-P",
        "alpha=0.25",
    ]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_EXPERIMENT_ID": experiment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = client.search_runs([experiment])
    assert (found.data.params, found.data.metrics, found.info.status) == ({"alpha": "0.25"}, {"score": 0.5}, "FINISHED")
    assert found.data.tags["mlflow.project.entryPoint"] == "main"
    assert [one.path for one in client.list_artifacts(found.info.run_id)] == ["out.txt"]
