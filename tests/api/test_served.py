"""What endpoints of the project serve cannot be deleted; everything else can, whatever its aliases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mainspring import registry
from mainspring.api.mlflow import model_versions, registered_models
from mainspring.api.mlflow.model_versions import VersionName
from mainspring.api.mlflow.registered_models import ModelName
from mainspring.core import Conflict, NotFound
from mainspring.core.project import EndpointConfig, Project
from mainspring.core.settings import resolve_settings
from mainspring.delivery import save_deployment
from mainspring.lineage import Store, open_store
from mainspring.serving import Deployment, ModelReference, Variant


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A project with an endpoint for the model ``delay``, and models ``delay`` and ``other`` with three versions."""
    project = Project(project="p", endpoints={"front": EndpointConfig(model="delay")})
    made = open_store(resolve_settings(tmp_path), project)
    with made.database.write() as connection:
        for name in ("delay", "other"):
            registry.create_model(connection, made.clock, name)
            for _ in range(3):
                registry.create_version(connection, made.blobs, made.clock, name=name, source="s3://b/x", actor="ada")
            registry.set_alias(
                connection, made.clock, name=name, alias="champion", version="2", actor="ada", reason="better"
            )  # fmt: skip
    yield made
    made.close()


def delete(store: Store, name: str, version: str = "") -> None:
    if version:
        model_versions.delete(store, VersionName(name=name, version=version))
    else:
        registered_models.delete(store, ModelName(name=name))


def test_the_champion_an_endpoint_is_to_serve_stays(store: Store) -> None:
    for version in ("", "2"):
        with pytest.raises(Conflict, match="endpoint front serves version 2"):
            delete(store, "delay", version)
    delete(store, "delay", "1")
    delete(store, "other", "2")
    delete(store, "other")
    with store.database.read() as connection:
        assert registry.get_version(connection, "delay", "2").aliases == ["champion"]
        with pytest.raises(NotFound):
            registry.get_model(connection, "other")


def test_what_is_deployed_stays_until_something_else_is(store: Store) -> None:
    for revision, version in ((1, "3"), (2, "1")):
        model = ModelReference(name="other", version=version, digest="sha256:" + "0" * 64, folder="/m")
        variants = [Variant(name="champion", weight=100, model=model)]
        document = Deployment(endpoint="front", revision=revision, variants=variants)
        with store.database.write() as connection:
            save_deployment(connection, store.clock, document, actor="ada", reason="try")
        for deleted in ("", version):
            with pytest.raises(Conflict, match=f"endpoint front serves version {version}"):
                delete(store, "other", deleted)
    delete(store, "other", "3")
