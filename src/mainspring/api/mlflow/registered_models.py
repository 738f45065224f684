"""MLflow's registered-model endpoints, aliases included."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from mainspring import registry
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import registered_model_message, version_message
from mainspring.api.mlflow.served import refuse_served
from mainspring.api.mlflow.wire import Int64, KeyValue, Required, Wire, set_fields, to_tags
from mainspring.core import InvalidInput
from mainspring.lineage import Store

REASON = "Set by an MLflow client."


class CreateModel(msgspec.Struct):
    """Register a name."""

    name: Required
    tags: list[KeyValue] | None = None
    description: str | None = None


class ModelName(msgspec.Struct):
    """Name a registered model."""

    name: Required


class RenameModel(msgspec.Struct):
    """Give a model another name."""

    name: Required
    new_name: Required


class UpdateModel(msgspec.Struct):
    """Change the description."""

    name: Required
    description: str | None = None


class SearchModels(msgspec.Struct):
    """Find registered models or versions."""

    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class GetLatestVersions(msgspec.Struct):
    """Read the newest version per stage."""

    name: Required
    stages: list[str] | None = None


class ModelTag(msgspec.Struct):
    """Set or remove one tag."""

    name: Required
    key: Required
    value: str = ""


class ModelAlias(msgspec.Struct):
    """Read or remove one alias."""

    name: Required
    alias: Required


class SetAlias(msgspec.Struct):
    """Point an alias to a version."""

    name: Required
    alias: Required
    version: Required


def create(store: Store, request: CreateModel) -> Wire:
    """Answer registered-models/create."""
    with store.database.write() as connection:
        model = registry.create_model(
            connection, store.clock, request.name, description=request.description or "", tags=to_tags(request.tags)
        )
    return {"registered_model": registered_model_message(model)}


def get(store: Store, request: ModelName) -> Wire:
    """Answer registered-models/get."""
    with store.database.read() as connection:
        (message,) = _messages(connection, [registry.get_model(connection, request.name)])
    return {"registered_model": message}


def rename(store: Store, request: RenameModel) -> Wire:
    """Answer registered-models/rename."""
    with store.database.write() as connection:
        model = registry.rename_model(connection, store.clock, request.name, request.new_name)
        (message,) = _messages(connection, [model])
    return {"registered_model": message}


def update(store: Store, request: UpdateModel) -> Wire:
    """Answer registered-models/update."""
    with store.database.write() as connection:
        model = registry.update_model(connection, store.clock, request.name, description=request.description or "")
        (message,) = _messages(connection, [model])
    return {"registered_model": message}


def delete(store: Store, request: ModelName) -> Wire:
    """Answer registered-models/delete."""
    with store.database.write() as connection:
        refuse_served(connection, store, request.name)
        registry.remove_model(connection, store.clock, name=request.name, actor=store.actor, reason=REASON)
    return {}


def search(store: Store, request: SearchModels) -> Wire:
    """Answer registered-models/search."""
    with store.database.read() as connection:
        page = registry.search_models(
            connection, filter=request.filter or "", order_by=request.order_by or (),
            max_results=100 if request.max_results is None else request.max_results, page_token=request.page_token,
        )  # fmt: skip
        found = _messages(connection, page.models)
    return set_fields(registered_models=found, next_page_token=page.next_page_token)


def get_latest_versions(store: Store, request: GetLatestVersions) -> Wire:
    """Answer registered-models/get-latest-versions: the newest version of each stage."""
    with store.database.read() as connection:
        found = registry.latest_by_stage(connection, request.name, request.stages or ())
    return set_fields(model_versions=[version_message(version) for version in found])


def set_tag(store: Store, request: ModelTag) -> Wire:
    """Answer registered-models/set-tag."""
    with store.database.write() as connection:
        registry.set_model_tag(connection, store.clock, request.name, request.key, request.value)
    return {}


def delete_tag(store: Store, request: ModelTag) -> Wire:
    """Answer registered-models/delete-tag."""
    with store.database.write() as connection:
        registry.delete_model_tag(connection, store.clock, request.name, request.key)
    return {}


def set_alias(store: Store, request: SetAlias) -> Wire:
    """Answer POST registered-models/alias."""
    with store.database.write() as connection:
        registry.set_alias(
            connection, store.clock, name=request.name, alias=request.alias, version=request.version,
            actor=store.actor, reason=REASON,
        )  # fmt: skip
    return {}


def get_by_alias(store: Store, request: ModelAlias) -> Wire:
    """Answer GET registered-models/alias."""
    with store.database.read() as connection:
        version = registry.resolve_alias(connection, request.name, request.alias)
        if version is None:
            registry.get_model(connection, request.name)
    if version is None:
        raise InvalidInput(f"Registered model alias {request.alias[:100]} not found.")
    return {"model_version": version_message(version)}


def delete_alias(store: Store, request: ModelAlias) -> Wire:
    """Answer DELETE registered-models/alias."""
    with store.database.write() as connection:
        registry.delete_alias(
            connection, store.clock, name=request.name, alias=request.alias, actor=store.actor, reason=REASON
        )
    return {}


def _messages(connection: sa.Connection, models: Sequence[registry.RegisteredModel]) -> list[Wire]:
    return [registered_model_message(model, registry.latest_by_stage(connection, model.name)) for model in models]


_ALIAS = "registered-models/alias"
_LATEST = "registered-models/get-latest-versions"
ENDPOINTS = (
    Endpoint(method="POST", path="registered-models/create", request=CreateModel, handle=create),
    Endpoint(method="GET", path="registered-models/get", request=ModelName, handle=get),
    Endpoint(method="GET", path="registered-models/search", request=SearchModels, handle=search),
    Endpoint(method="POST", path="registered-models/rename", request=RenameModel, handle=rename),
    Endpoint(method="PATCH", path="registered-models/update", request=UpdateModel, handle=update),
    Endpoint(method="DELETE", path="registered-models/delete", request=ModelName, handle=delete),
    Endpoint(method="POST", path=_LATEST, request=GetLatestVersions, handle=get_latest_versions),
    Endpoint(method="GET", path=_LATEST, request=GetLatestVersions, handle=get_latest_versions),
    Endpoint(method="POST", path="registered-models/set-tag", request=ModelTag, handle=set_tag),
    Endpoint(method="DELETE", path="registered-models/delete-tag", request=ModelTag, handle=delete_tag),
    Endpoint(method="POST", path=_ALIAS, request=SetAlias, handle=set_alias),
    Endpoint(method="GET", path=_ALIAS, request=ModelAlias, handle=get_by_alias),
    Endpoint(method="DELETE", path=_ALIAS, request=ModelAlias, handle=delete_alias),
)
