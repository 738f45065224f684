from __future__ import annotations

from dataclasses import dataclass

import pytest

from mainspring import registry, tracking
from mainspring.blobs import LocalBlobs
from mainspring.core import FixedClock
from mainspring.db import Database
from mainspring.registry import ModelVersion

MLMODEL = b"""
flavors: {python_function: {loader_module: x}}
signature:
  inputs: '[{"type": "double", "name": "distance", "required": true}]'
  outputs: null
"""


@dataclass
class Shelf:
    """A store with one experiment, for registering models with few words."""

    database: Database
    blobs: LocalBlobs
    clock: FixedClock
    experiment: str

    def log_model(self, data: bytes = b"booster", *, tags: dict[str, str] | None = None) -> tuple[str, str]:
        """Make a run with a logged model; return both ids."""
        with self.database.write() as connection:
            run = tracking.create_run(connection, self.clock, self.experiment, tags=tags)
            model = tracking.create_logged_model(
                connection, self.clock, self.experiment, name="model", source_run_id=run.id
            )
            number = tracking.find_run(connection, run.id).number
            tracking.log_models(connection, number, [tracking.ModelLink(kind="output", model_id=model.id)])
        self.put(tracking.path_of_uri(model.artifact_uri) + "/MLmodel", MLMODEL)
        self.put(tracking.path_of_uri(model.artifact_uri) + "/data/booster.txt", data)
        return run.id, model.id

    def put(self, path: str, data: bytes) -> None:
        digest = self.blobs.put(data)
        with self.database.write() as connection:
            tracking.put_file(connection, self.clock, path, digest=digest, size=len(data))

    def register(self, source: str, name: str = "flights-delay", **given: str) -> ModelVersion:
        self.clock.advance(1)
        with self.database.write() as connection:
            return registry.create_version(
                connection, self.blobs, self.clock, name=name, source=source, actor="ada", **given
            )


@pytest.fixture
def shelf(database: Database, blobs: LocalBlobs, clock: FixedClock) -> Shelf:
    with database.write() as connection:
        experiment = tracking.create_experiment(connection, clock, "flights")
        registry.create_model(connection, clock, "flights-delay")
    return Shelf(database, blobs, clock, experiment)
