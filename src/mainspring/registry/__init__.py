"""Registered models, their immutable versions, and the aliases that move between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.core.lazy import names_of

if TYPE_CHECKING:
    from mainspring.registry.aliases import (
        AliasMove,
        alias_history,
        delete_alias,
        remove_model,
        remove_version,
        resolve,
        resolve_alias,
        set_alias,
    )
    from mainspring.registry.folders import materialise
    from mainspring.registry.formats import read_signature, warn_of_code
    from mainspring.registry.models import (
        ModelPage,
        RegisteredModel,
        create_model,
        delete_model_tag,
        get_model,
        list_models,
        rename_model,
        search_models,
        set_model_tag,
        update_model,
    )
    from mainspring.registry.sources import Claim, Source, check_claim, find_source
    from mainspring.registry.versions import (
        PIPELINE_RUN_TAG,
        STAGES,
        ModelVersion,
        VersionPage,
        create_version,
        delete_version_tag,
        get_download_uri,
        get_version,
        latest_by_stage,
        latest_versions,
        list_versions,
        search_versions,
        set_version_tag,
        transition_stage,
        update_version,
    )

__all__ = [
    "PIPELINE_RUN_TAG",
    "STAGES",
    "AliasMove",
    "Claim",
    "ModelPage",
    "ModelVersion",
    "RegisteredModel",
    "Source",
    "VersionPage",
    "alias_history",
    "check_claim",
    "create_model",
    "create_version",
    "delete_alias",
    "delete_model_tag",
    "delete_version_tag",
    "find_source",
    "get_download_uri",
    "get_model",
    "get_version",
    "latest_by_stage",
    "latest_versions",
    "list_models",
    "list_versions",
    "materialise",
    "read_signature",
    "remove_model",
    "remove_version",
    "rename_model",
    "resolve",
    "resolve_alias",
    "search_models",
    "search_versions",
    "set_alias",
    "set_model_tag",
    "set_version_tag",
    "transition_stage",
    "update_model",
    "update_version",
    "warn_of_code",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, ())
