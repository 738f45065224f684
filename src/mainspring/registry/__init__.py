"""Registered models, their immutable versions, and the aliases that move between them."""

from __future__ import annotations

from mainspring.registry.aliases import (
    AliasMove,
    alias_history,
    delete_alias,
    resolve,
    resolve_alias,
    set_alias,
)
from mainspring.registry.folders import materialise
from mainspring.registry.models import (
    ModelPage,
    RegisteredModel,
    create_model,
    delete_model,
    delete_model_tag,
    get_model,
    list_models,
    rename_model,
    search_models,
    set_model_tag,
    update_model,
)
from mainspring.registry.versions import (
    PIPELINE_RUN_TAG,
    ModelVersion,
    VersionPage,
    create_version,
    delete_version,
    delete_version_tag,
    get_version,
    latest_versions,
    list_versions,
    search_versions,
    set_version_tag,
    update_version,
)

__all__ = [
    "PIPELINE_RUN_TAG",
    "AliasMove",
    "ModelPage",
    "ModelVersion",
    "RegisteredModel",
    "VersionPage",
    "alias_history",
    "create_model",
    "create_version",
    "delete_alias",
    "delete_model",
    "delete_model_tag",
    "delete_version",
    "delete_version_tag",
    "get_model",
    "get_version",
    "latest_versions",
    "list_models",
    "list_versions",
    "materialise",
    "rename_model",
    "resolve",
    "resolve_alias",
    "search_models",
    "search_versions",
    "set_alias",
    "set_model_tag",
    "set_version_tag",
    "update_model",
    "update_version",
]
