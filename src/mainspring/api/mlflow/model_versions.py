"""MLflow's model-version endpoints."""

from __future__ import annotations

import msgspec

from mainspring import registry, tracking
from mainspring.api.errors import NotSupported
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import version_message
from mainspring.api.mlflow.registered_models import SearchModels
from mainspring.api.mlflow.wire import KeyValue, Required, Wire, set_fields, to_tags
from mainspring.lineage import Store


class CreateVersion(msgspec.Struct):
    """Register a version."""

    name: Required
    source: Required
    run_id: str | None = None
    tags: list[KeyValue] | None = None
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class VersionName(msgspec.Struct):
    """Name a version."""

    name: Required
    version: Required


class UpdateVersion(msgspec.Struct):
    """Change the description."""

    name: Required
    version: Required
    description: str | None = None


class VersionTag(msgspec.Struct):
    """Set or remove one tag."""

    name: Required
    version: Required
    key: Required
    value: str = ""


def create(store: Store, request: CreateVersion) -> Wire:
    """Answer model-versions/create."""
    with store.database.write() as connection:
        version = registry.create_version(
            connection, store.blobs, store.clock, name=request.name, source=request.source,
            run_id=request.run_id or "", logged_model_id=request.model_id or "", tags=to_tags(request.tags),
            description=request.description or "", run_link=request.run_link or "", actor=store.actor,
        )  # fmt: skip
    return {"model_version": version_message(version)}


def get(store: Store, request: VersionName) -> Wire:
    """Answer model-versions/get."""
    with store.database.read() as connection:
        return {"model_version": version_message(registry.get_version(connection, request.name, request.version))}


def update(store: Store, request: UpdateVersion) -> Wire:
    """Answer model-versions/update."""
    with store.database.write() as connection:
        version = registry.update_version(
            connection, store.clock, request.name, request.version, description=request.description or ""
        )
    return {"model_version": version_message(version)}


def delete(store: Store, request: VersionName) -> Wire:
    """Answer model-versions/delete."""
    with store.database.write() as connection:
        registry.delete_version(connection, request.name, request.version)
    return {}


def search(store: Store, request: SearchModels) -> Wire:
    """Answer model-versions/search."""
    with store.database.read() as connection:
        page = registry.search_versions(
            connection, filter=request.filter or "", order_by=request.order_by or (),
            max_results=10_000 if request.max_results is None else request.max_results, page_token=request.page_token,
        )  # fmt: skip
    found = [version_message(version) for version in page.versions]
    return set_fields(model_versions=found, next_page_token=page.next_page_token)


def get_download_uri(store: Store, request: VersionName) -> Wire:
    """Answer model-versions/get-download-uri with the address of the version's own, immutable files."""
    with store.database.read() as connection:
        digest = registry.get_version(connection, request.name, request.version).digest
    return {"artifact_uri": tracking.tree_uri(digest)}


def set_tag(store: Store, request: VersionTag) -> Wire:
    """Answer model-versions/set-tag."""
    with store.database.write() as connection:
        registry.set_version_tag(connection, request.name, request.version, request.key, request.value)
    return {}


def delete_tag(store: Store, request: VersionTag) -> Wire:
    """Answer model-versions/delete-tag."""
    with store.database.write() as connection:
        registry.delete_version_tag(connection, request.name, request.version, request.key)
    return {}


def transition_stage(store: Store, request: VersionName) -> Wire:
    """Answer model-versions/transition-stage: there are no stages."""
    raise NotSupported("Model version stages are not supported.", hint="Use aliases: set_registered_model_alias.")


ENDPOINTS = (
    Endpoint(method="POST", path="model-versions/create", request=CreateVersion, handle=create),
    Endpoint(method="GET", path="model-versions/get", request=VersionName, handle=get),
    Endpoint(method="PATCH", path="model-versions/update", request=UpdateVersion, handle=update),
    Endpoint(method="DELETE", path="model-versions/delete", request=VersionName, handle=delete),
    Endpoint(method="GET", path="model-versions/search", request=SearchModels, handle=search),
    Endpoint(method="GET", path="model-versions/get-download-uri", request=VersionName, handle=get_download_uri),
    Endpoint(method="POST", path="model-versions/set-tag", request=VersionTag, handle=set_tag),
    Endpoint(method="DELETE", path="model-versions/delete-tag", request=VersionTag, handle=delete_tag),
    Endpoint(method="POST", path="model-versions/transition-stage", request=VersionName, handle=transition_stage),
)
