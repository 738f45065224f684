from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mainspring import registry, tracking
from mainspring.blobs import LocalBlobs
from mainspring.core import FixedClock
from mainspring.core.project import load_project
from mainspring.core.settings import resolve_settings
from mainspring.db import Database
from mainspring.lineage import Store
from mainspring.registry import ModelVersion

PROJECT = """
project: p
datasets: {flights: {files: incoming/*.parquet, time_column: at}}
pipelines: {train: {file: pipeline.py, function: train}}
endpoints: {e: {model: m, baseline: "1"}}
monitors: {w: {endpoint: e, window: 7d, label_delay: 12h}}
retrain: {r: {monitor: w, pipeline: train, every_windows: 4}}
"""


@pytest.fixture
def store(tmp_path: Path, sqlite_database: Database, blobs: LocalBlobs, clock: FixedClock) -> Store:
    (tmp_path / "mainspring.yaml").write_text(PROJECT)
    settings = resolve_settings(tmp_path)
    settings.home.mkdir()
    with sqlite_database.write() as connection:
        registry.create_model(connection, clock, "m")
        tracking.create_experiment(connection, clock, "x")
    return Store(
        settings=settings, project=load_project(tmp_path), database=sqlite_database, blobs=blobs, clock=clock,
        actor="ada",
    )  # fmt: skip


@pytest.fixture
def register(store: Store, clock: FixedClock) -> Callable[[], ModelVersion]:
    """Register one more version of the model ``m``."""

    def register() -> ModelVersion:
        clock.advance(1000)
        with store.database.write() as connection:
            experiment = tracking.get_experiment_by_name(connection, "x")
            assert experiment is not None
            run = tracking.create_run(connection, clock, experiment.id)
            path = f"{tracking.path_of_uri(run.artifact_uri)}/model"
            for name, data in {"MLmodel": b"flavors: {}", "weights": run.id.encode()}.items():
                digest = store.blobs.put(data)
                tracking.put_file(connection, clock, f"{path}/{name}", digest=digest, size=len(data))
            return registry.create_version(
                connection, store.blobs, clock, name="m", source=f"runs:/{run.id}/model", run_id=run.id, actor="ada"
            )

    return register
