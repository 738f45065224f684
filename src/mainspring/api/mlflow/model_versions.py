"""MLflow's model-version endpoints."""

from __future__ import annotations

import re

import msgspec
import sqlalchemy as sa

from mainspring import registry, tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import version_message
from mainspring.api.mlflow.log_model import append_model
from mainspring.api.mlflow.places import local_root
from mainspring.api.mlflow.registered_models import REASON, SearchModels
from mainspring.api.mlflow.served import refuse_served
from mainspring.api.mlflow.wire import KeyValue, Required, Wire, set_fields, to_tags
from mainspring.core import InvalidInput
from mainspring.lineage import Store

PROMPT_TAG = "mlflow.prompt.is_prompt"
VERSIONS_TAG = "mlflow.modelVersions"
MAX_LINKS = 8000
PROMPT_SOURCES = ("dummy-source", "prompt-template")


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


class TransitionStage(msgspec.Struct):
    """Move a version to a stage."""

    name: Required
    version: Required
    stage: Required
    archive_existing_versions: bool = False


class VersionTag(msgspec.Struct):
    """Set or remove one tag."""

    name: Required
    version: Required
    key: Required
    value: str = ""


def create(store: Store, request: CreateVersion) -> Wire:
    """Answer model-versions/create."""
    tags, run_id, model_id = to_tags(request.tags), request.run_id or "", request.model_id or ""
    _check_source(store, request.source)
    if tags.get(PROMPT_TAG, "").lower() == "true":
        if request.source not in PROMPT_SOURCES:
            raise InvalidInput(
                f"Invalid prompt source: '{request.source[:200]}'. Prompt sources must use an MLflow placeholder."
            )
    elif not tracking.is_local(request.source):
        registry.check_claim(registry.Claim(uri=request.source, run_id=run_id, logged_model_id=model_id))
    with store.database.write() as connection:
        version = registry.create_version(
            connection, store.blobs, store.clock, name=request.name, source=request.source,
            run_id=run_id, logged_model_id=model_id, tags=tags, description=request.description or "",
            run_link=request.run_link or "", actor=store.actor, local_root=local_root(store),
        )  # fmt: skip
        if model_id and not version.is_prompt:
            _link_logged_model(connection, store, version)
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
        refuse_served(connection, store, request.name, request.version)
        registry.remove_version(
            connection, store.clock, name=request.name, version=request.version, actor=store.actor, reason=REASON
        )
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
    """Answer model-versions/get-download-uri: the address of the version's own, immutable files if they are here."""
    with store.database.read() as connection:
        uri = registry.get_download_uri(connection, store.blobs, request.name, request.version)
    return {"artifact_uri": uri}


def set_tag(store: Store, request: VersionTag) -> Wire:
    """Answer model-versions/set-tag."""
    with store.database.write() as connection:
        registry.set_version_tag(connection, store.clock, request.name, request.version, request.key, request.value)
    return {}


def delete_tag(store: Store, request: VersionTag) -> Wire:
    """Answer model-versions/delete-tag."""
    with store.database.write() as connection:
        registry.delete_version_tag(connection, store.clock, request.name, request.version, request.key)
    return {}


def transition_stage(store: Store, request: TransitionStage) -> Wire:
    """Answer model-versions/transition-stage."""
    with store.database.write() as connection:
        version = registry.transition_stage(
            connection, store.clock, request.name, request.version, request.stage,
            archives_existing=request.archive_existing_versions, actor=store.actor,
        )  # fmt: skip
    return {"model_version": version_message(version)}


def _check_source(store: Store, source: str) -> None:
    """Refuse a source the operator does not want."""
    rule = store.settings.values.version_sources
    if rule and not re.search(rule, source):
        raise InvalidInput(f"Invalid model version source: '{source[:200]}'.", hint="The operator's rule refuses it.")


def _link_logged_model(connection: sa.Connection, store: Store, version: registry.ModelVersion) -> None:
    """Say in a tag of the logged model which versions were made of it, as MLflow does."""
    model = tracking.get_logged_model(connection, version.logged_model_id)
    link: dict[str, object] = {"name": version.name, "version": int(version.version)}
    linked = append_model(model.tags.get(VERSIONS_TAG, "[]"), link)
    if len(linked) <= MAX_LINKS:
        tracking.set_model_tags(connection, store.clock, model.id, {VERSIONS_TAG: linked})


ENDPOINTS = (
    Endpoint(method="POST", path="model-versions/create", request=CreateVersion, handle=create),
    Endpoint(method="GET", path="model-versions/get", request=VersionName, handle=get),
    Endpoint(method="PATCH", path="model-versions/update", request=UpdateVersion, handle=update),
    Endpoint(method="DELETE", path="model-versions/delete", request=VersionName, handle=delete),
    Endpoint(method="GET", path="model-versions/search", request=SearchModels, handle=search),
    Endpoint(method="GET", path="model-versions/get-download-uri", request=VersionName, handle=get_download_uri),
    Endpoint(method="POST", path="model-versions/set-tag", request=VersionTag, handle=set_tag),
    Endpoint(method="DELETE", path="model-versions/delete-tag", request=VersionTag, handle=delete_tag),
    Endpoint(method="POST", path="model-versions/transition-stage", request=TransitionStage, handle=transition_stage),
)
