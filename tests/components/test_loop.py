"""From a CSV file to predictions of the registered champion, all of ready-made components, run by the real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from mainspring.core.project import load_project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import Store, list_events, open_store
from mainspring.registry import resolve

PROJECT = """
project: churn
pipelines:
  train:
    file: pipeline.py
    function: churn
"""
PIPELINE = """
from kfp import dsl

from mainspring.components import kfp as steps

FEATURES = dict(without=["churn", "customer", "signed", "plan", "bill"])
SPACE = {
    "num_leaves": {"type": "int", "low": 4, "high": 16},
    "learning_rate": {"type": "float", "low": 0.03, "high": 0.3, "log": True},
}


@dsl.pipeline(name="churn")
def churn(source: str, output: str, name: str = "churn", estimator: str = "lightgbm") -> int:
    data = steps.ingest_files(source=source).outputs["data"]
    profile = steps.profile(data=data)
    checked = steps.validate(profile=profile.outputs["profile"], label="churn", unbounded=["signed"])
    parts = steps.split(data=data, method="hash", column="customer", test_fraction=0.3).after(checked)
    train, test = parts.outputs["train"], parts.outputs["test"]
    fitted = steps.fit_transform(train=train, **FEATURES).outputs["transform"]
    about = dict(target="churn", task="binary", experiment="churn", estimator=estimator)
    tuned = steps.tune(train=train, transform=fitted, space=SPACE, n_trials=3, settings={"n_estimators": 20}, **about)
    trained = steps.train(train=train, transform=fitted, settings=tuned.outputs["Output"], **about)
    judged = steps.evaluate(
        data=test, model=trained.outputs["model"], slices=["region"], run_id=trained.outputs["Output"]
    )
    before = steps.evaluate_registered(data=test, version="models:/churn@champion", slices=["region"])
    before.set_caching_options(False)
    verdict = steps.gate(
        candidate=judged.outputs["evaluation"], champion=before.outputs["evaluation"], model=name
    )
    verdict.set_caching_options(False)
    with dsl.If(verdict.outputs["Output"] == True):
        version = steps.register(
            name=name, run_id=trained.outputs["Output"], verdict=verdict.outputs["verdict"],
            evaluation=judged.outputs["evaluation"],
        )
        deployed = steps.deploy(name=name, version=version.outputs["Output"])
        steps.batch_predict(data=test, version="models:/churn@champion", output=output).after(deployed)
    return checked.outputs["Output"]
"""


@pytest.fixture
def project(tmp_path: Path, churned: Callable[..., pl.DataFrame]) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mainspring.yaml").write_text(PROJECT)
    (folder / "pipeline.py").write_text(PIPELINE)
    churned(2_000).write_csv(folder / "customers.csv")
    return folder


@pytest.fixture
def store(project: Path) -> Iterator[Store]:
    store = open_store(resolve_settings(project), load_project(project))
    yield store
    store.close()


def run(folder: Path, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "mainspring", "--project", str(folder), "run", "train", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_from_a_csv_file_to_predictions_of_the_registered_champion(project: Path, store: Store) -> None:
    """Every step of the loop runs as a component; what comes out is judged, registered, deployed and predicts."""
    output = project / "predictions.csv"
    given = ("-p", f"source={project / 'customers.csv'}", "-p", f"output={output}")
    first = run(project, *given)
    assert first["state"] == "SUCCEEDED"
    assert first["outputs"] == {"Output": 0}

    predicted = pl.read_csv(output)
    assert predicted["prediction"].is_between(0, 1).all()
    assert "problem" not in predicted.columns
    gained = predicted.group_by("churn").agg(pl.col("prediction").mean()).sort("churn")["prediction"]
    assert gained[1] > gained[0] + 0.1

    with store.database.read() as connection:
        version = resolve(connection, "models:/churn@champion")
        passed = [event for event in list_events(connection) if event.type == "gate.passed"]
    assert version.version == "1"
    assert "better than a constant" in version.tags["verdict"]
    assert 0.6 < float(version.tags["test_auc"]) < 1
    assert [event.subject for event in passed] == ["churn"]
    with store.database.read() as connection:
        runs = connection.exec_driver_sql("select count(*) from run").scalar_one()
    assert runs == 1 + 3 + 1  # the search, its trials, the training

    if os.environ.get("MAINSPRING_LONG_TESTS") != "1":
        return
    # The same again: all of the learning comes from the cache, and a champion's twin is no better than itself.
    again = run(project, *given)
    states = {task["name"]: task for task in again["tasks"]}
    assert all(states[name]["cached"] for name in ("ingest-files", "split", "fit-transform", "tune", "train"))
    assert states["register"]["state"] == "SKIPPED"
