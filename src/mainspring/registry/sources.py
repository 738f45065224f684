"""Where the files of a new version come from, and what its MLmodel file says."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
import yaml

from mainspring.blobs import LocalBlobs, check_relative, read_tree
from mainspring.core import InvalidInput, NotFound
from mainspring.db.tables import registry as tables
from mainspring.tracking import LoggedModel, get_logged_model, get_run, path_of_uri, snapshot_folder

MAX_MLMODEL_BYTES = 4 << 20


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The files a version is made of, and which run and logged model they belong to."""

    digest: str
    run_id: str
    logged_model_id: str


def find_source(connection: sa.Connection, blobs: LocalBlobs, uri: str, *, run_id: str, logged_model_id: str) -> Source:
    """Freeze the files behind a source URI as a tree; refuse URIs that reach beyond the named run or logged model."""
    _check_uri(uri)
    scheme, _, rest = uri.partition(":/")
    if scheme == "models" and rest.startswith("m-"):
        if logged_model_id and logged_model_id != rest:
            raise _refuse(uri, "it is not the logged model of the request")
        return _from_logged_model(connection, blobs, get_logged_model(connection, rest), run_id)
    if scheme == "models":
        return _from_version(connection, rest)
    if scheme == "runs":
        source_run, _, path = rest.partition("/")
        if run_id and run_id != source_run:
            raise _refuse(uri, "the run_id request parameter names another run")
        return _from_run(connection, blobs, source_run, path)
    if scheme == "mlflow-artifacts":
        return _from_artifacts(connection, blobs, uri, run_id=run_id, logged_model_id=logged_model_id)
    raise _refuse(uri, "only models:/, runs:/ and mlflow-artifacts:/ sources are supported")


def read_signature(blobs: LocalBlobs, digest: str) -> dict[str, Any]:
    """Return the signature in the MLmodel file of a tree: ``inputs``, ``outputs`` and ``params``, parsed."""
    mlmodel = next((file for file in read_tree(blobs, digest) if file.path == "MLmodel"), None)
    if mlmodel is None or mlmodel.size > MAX_MLMODEL_BYTES:
        return {}
    try:
        document = yaml.safe_load(blobs.read(mlmodel.digest))
        signature = document.get("signature") if isinstance(document, dict) else None
        if not isinstance(signature, dict):
            return {}
        texts = {str(key): value for key, value in signature.items() if isinstance(value, str) and value}
        return {key: msgspec.json.decode(value) for key, value in texts.items()}
    except (yaml.YAMLError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("The MLmodel file of the model cannot be read.", hint="Log the model again.") from error


def _from_logged_model(connection: sa.Connection, blobs: LocalBlobs, model: LoggedModel, run_id: str) -> Source:
    digest = snapshot_folder(connection, blobs, path_of_uri(model.artifact_uri))
    return Source(digest=digest, run_id=run_id or model.source_run_id or "", logged_model_id=model.id)


def _from_run(connection: sa.Connection, blobs: LocalBlobs, run_id: str, path: str) -> Source:
    """Take the run's artifacts below ``path``, or the logged model of that name it made."""
    run = get_run(connection, run_id)
    try:
        digest = snapshot_folder(connection, blobs, path_of_uri(f"{run.artifact_uri}/{check_relative(path)}"))
    except NotFound:
        for link in run.models:
            model = get_logged_model(connection, link.model_id)
            if link.kind == "output" and model.name == path:
                return _from_logged_model(connection, blobs, model, run_id)
        raise
    return Source(digest=digest, run_id=run_id, logged_model_id="")


def _from_artifacts(
    connection: sa.Connection, blobs: LocalBlobs, uri: str, *, run_id: str, logged_model_id: str
) -> Source:
    if logged_model_id:
        root = get_logged_model(connection, logged_model_id).artifact_uri
    elif run_id:
        root = get_run(connection, run_id).artifact_uri
    else:
        raise _refuse(uri, "the run_id request parameter has to be specified")
    if uri.rstrip("/") != root and not uri.startswith(root + "/"):
        raise _refuse(uri, "it is not below the artifacts of that run or logged model")
    digest = snapshot_folder(connection, blobs, path_of_uri(uri))
    return Source(digest=digest, run_id=run_id, logged_model_id=logged_model_id)


def _from_version(connection: sa.Connection, rest: str) -> Source:
    name, _, version = rest.partition("/")
    row, model = tables.model_version.c, tables.registered_model.c
    query = sa.select(row.digest, row.run_id, row.logged_model_id).join(
        tables.registered_model, model.id == row.model_id
    )
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else -1
    found = connection.execute(query.where(model.name == name, row.version == number)).first()
    if found is None:
        raise NotFound(f"Model Version (name={name[:256]}, version={version[:20]}) not found")
    return Source(digest=found.digest, run_id=found.run_id, logged_model_id=found.logged_model_id)


def _check_uri(uri: str) -> None:
    parts = uri.split("/")
    if len(uri) > 1000 or ".." in parts or not uri.isprintable() or any(mark in uri for mark in "\\%#?"):
        raise _refuse(uri, "relative parts, escapes, '#' and '?' are not allowed")


def _refuse(uri: str, why: str) -> InvalidInput:
    return InvalidInput(f"Invalid model version source: '{uri[:200]}'.", hint=f"{why[0].upper()}{why[1:]}.")
