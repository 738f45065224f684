"""The few routes of MLflow's own pages that scripts use as well: read one artifact, upload a small one.

They give nothing that the artifact proxy does not give: the same paths, the same checks, the same headers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from mainspring import registry, tracking
from mainspring.api.mlflow.artifacts import file_headers
from mainspring.api.mlflow.mirror import mirror_file
from mainspring.api.mlflow.places import check_relative_path, find_file, write_local
from mainspring.core import InvalidInput, NotFound
from mainspring.lineage import Store

MAX_UPLOAD = 10 << 20
_JSON = "application/json"


def browser_routes(store: Store) -> list[BaseRoute]:
    """Return the routes."""
    return [
        _route(store, "/get-artifact", _read_run_artifact),
        _route(store, "/model-versions/get-artifact", _read_version_artifact),
        _route(store, "/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files", _read_model_artifact),
        Route("/ajax-api/2.0/mlflow/upload-artifact", _Upload(store).answer, methods=["POST"]),
    ]


class _Upload:
    """The endpoint that takes a small artifact of a run as the body of a POST."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answer(self, request: Request) -> Response:
        """Store the body at the path."""
        run_id, path = request.query_params.get("run_uuid", ""), request.query_params.get("path", "")
        if not run_id:
            raise InvalidInput("Request must specify run_uuid.")
        if not path:
            raise InvalidInput("Request must specify path.")
        path = check_relative_path(path)
        data = await _read_body(request)
        await anyio.to_thread.run_sync(self._keep, run_id, path, data)
        return Response(b"{}", media_type=_JSON)

    def _keep(self, run_id: str, path: str, data: bytes) -> None:
        with self._store.database.read() as connection:
            root = tracking.get_run(connection, run_id).artifact_uri
        if tracking.is_local(root):
            write_local(self._store, root, path, data)
            return
        target = tracking.path_of_uri(f"{root}/{path}")
        digest = self._store.blobs.put(data)
        with self._store.database.write() as connection:
            tracking.put_file(connection, self._store.clock, target, digest=digest, size=len(data))
        mirror_file(self._store, target, digest)


async def _read_body(request: Request) -> bytes:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_UPLOAD:
            raise InvalidInput(f"Artifact size is too large. Max size is {MAX_UPLOAD} bytes.", hint="Use the proxy.")
        parts.append(chunk)
    if not size:
        raise InvalidInput("Request must specify data.")
    return b"".join(parts)


def _route(store: Store, path: str, find: Callable[[Store, Request], tuple[Path, str]]) -> Route:
    def answer(request: Request) -> Response:
        found, name = find(store, request)
        return FileResponse(found, headers={key.decode(): value.decode() for key, value in file_headers(name)})

    return Route(path, answer, methods=["GET"])


def _read_run_artifact(store: Store, request: Request) -> tuple[Path, str]:
    path = _path(request, "path")
    run_id = request.query_params.get("run_id") or request.query_params.get("run_uuid") or ""
    with store.database.read() as connection:
        return find_file(connection, store, tracking.get_run(connection, run_id).artifact_uri, path), path


def _read_model_artifact(store: Store, request: Request) -> tuple[Path, str]:
    path = _path(request, "artifact_file_path")
    with store.database.read() as connection:
        model = tracking.get_logged_model(connection, request.path_params["model_id"])
        return find_file(connection, store, model.artifact_uri, path), path


def _read_version_artifact(store: Store, request: Request) -> tuple[Path, str]:
    path = _path(request, "path")
    name, version = request.query_params.get("name", ""), request.query_params.get("version", "")
    with store.database.read() as connection:
        uri = registry.get_download_uri(connection, store.blobs, name, version)
        if tracking.proxied_path(uri) is None:
            raise NotFound(f"No such artifact: '{path[:200]}'", hint="The files of this version are not kept here.")
        return find_file(connection, store, uri, path), path


def _path(request: Request, name: str) -> str:
    path = check_relative_path(request.query_params.get(name, ""))
    if not path:
        raise InvalidInput(f"Missing value for required parameter '{name}'.")
    return path
