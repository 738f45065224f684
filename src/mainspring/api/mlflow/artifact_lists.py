"""MLflow's endpoints that list artifacts, and those that would hand out presigned addresses."""

from __future__ import annotations

from typing import NoReturn

import msgspec

from mainspring import tracking
from mainspring.api.errors import NotSupported
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import file_message
from mainspring.api.mlflow.places import check_relative_path, list_location
from mainspring.api.mlflow.wire import Int64, Required, Wire, set_fields
from mainspring.core import InvalidInput
from mainspring.lineage import Store

MAX_EXPIRATION_S = 604_800


class ListArtifacts(msgspec.Struct):
    """List the artifacts of a run."""

    run_id: str | None = None
    run_uuid: str | None = None
    path: str | None = None
    page_token: str | None = None


class ListDirectory(msgspec.Struct):
    """List the artifacts of a logged model."""

    model_id: Required
    artifact_directory_path: str | None = None


class PresignedUpload(msgspec.Struct):
    """Ask for an address to upload to."""

    path: Required
    run_id: str | None = None
    model_id: str | None = None
    expiration: Int64 | None = None


class PresignedDownload(msgspec.Struct):
    """Ask for an address to download from."""

    run_id: Required
    path: Required
    expiration: Int64 | None = None


def list_artifacts(store: Store, request: ListArtifacts) -> Wire:
    """Answer artifacts/list."""
    below = check_relative_path(request.path or "")
    with store.database.read() as connection:
        root = tracking.get_run(connection, _require_run(request.run_id or request.run_uuid)).artifact_uri
        found = list_location(connection, store, root, below)
    return set_fields(root_uri=root, files=[file_message(file, below=below) for file in found])


def list_directory(store: Store, request: ListDirectory) -> Wire:
    """Answer GET logged-models/{id}/artifacts/directories."""
    below = check_relative_path(request.artifact_directory_path or "")
    with store.database.read() as connection:
        root = tracking.get_logged_model(connection, request.model_id).artifact_uri
        found = list_location(connection, store, root, below)
    return set_fields(root_uri=root, files=[file_message(file, below=below) for file in found])


def presigned_upload(store: Store, request: PresignedUpload) -> Wire:
    """Answer artifacts/presigned-upload-url: there are none, artifacts go through the server."""
    if bool(request.run_id) == bool(request.model_id):
        raise InvalidInput("Exactly one of run_id and model_id must be provided.")
    check_relative_path(request.path)
    with store.database.read() as connection:
        if request.run_id:
            root = tracking.get_run(connection, request.run_id).artifact_uri
        else:
            root = tracking.get_logged_model(connection, request.model_id or "").artifact_uri
    _refuse("upload", root, "proxied artifact storage", "a direct cloud storage artifact URI")


def presigned_download(store: Store, request: PresignedDownload) -> Wire:
    """Answer artifacts/presigned-download-url: there are none, artifacts go through the server."""
    check_relative_path(request.path)
    expiration = 900 if request.expiration is None else request.expiration
    if not 1 <= expiration <= MAX_EXPIRATION_S:
        raise InvalidInput(f"expiration must be between 1 and {MAX_EXPIRATION_S} seconds (got {expiration}).")
    with store.database.read() as connection:
        root = tracking.get_run(connection, request.run_id).artifact_uri
    _refuse("download", root, "runs with proxied artifact storage", "a run with a direct cloud storage artifact URI")


def _refuse(what: str, root: str, whose: str, needed: str) -> NoReturn:
    if tracking.proxied_path(root) is not None:
        scheme = root.partition(":")[0]
        raise InvalidInput(
            f"Presigned {what} is not supported for {whose} (artifact URI scheme: {scheme}). This endpoint requires "
            f"{needed}."
        )
    raise NotSupported(f"Presigned {what} is not supported for the current artifact repository")


def _require_run(id: str | None) -> str:
    if not id:
        raise InvalidInput(
            "Missing value for required parameter 'run_id'.",
            hint="See the API docs for more information about request parameters.",
        )
    return id


ENDPOINTS = (
    Endpoint(method="GET", path="artifacts/list", request=ListArtifacts, handle=list_artifacts),
    Endpoint(
        method="GET", path="logged-models/{model_id}/artifacts/directories", request=ListDirectory,
        handle=list_directory,
    ),
    Endpoint(method="POST", path="artifacts/presigned-upload-url", request=PresignedUpload, handle=presigned_upload),
    Endpoint(
        method="POST", path="artifacts/presigned-download-url", request=PresignedDownload, handle=presigned_download
    ),
)  # fmt: skip
