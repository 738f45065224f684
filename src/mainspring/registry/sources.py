"""Where the files of a new version come from: which sources are believed, and how their files are frozen.

Only files the server keeps itself are frozen: proxied artifacts, and those below the operator's ``--artifact-root``.
A source in somebody's object store is kept as a text; nothing here ever connects to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import sqlalchemy as sa

from mainspring.blobs import LocalBlobs, TreeFile, put_manifest
from mainspring.core import InvalidInput, MainspringError, NotFound
from mainspring.db.tables import registry as tables
from mainspring.tracking import (
    LoggedModel,
    check_path,
    get_logged_model,
    get_run,
    is_local,
    local_folder,
    path_of_uri,
    proxied_path,
    snapshot_folder,
)

MAX_SOURCE = 1000
PROMPT_TAG = "mlflow.prompt.is_prompt"
_KEPT_ELSEWHERE = ("s3", "s3a", "gs", "wasb", "wasbs", "abfs", "abfss", "adl", "dbfs", "r2", "b2", "oss")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The files a version is made of, and which run and logged model they belong to."""

    uri: str
    digest: str
    run_id: str
    logged_model_id: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about a version's origin: the source, and the run and logged model it names."""

    uri: str
    run_id: str = ""
    logged_model_id: str = ""
    local_root: str = ""


def check_claim(claim: Claim) -> None:
    """Refuse a source in a run or logged model that the request does not name, as MLflow does."""
    check_uri(claim.uri)
    scheme, _, rest = claim.uri.partition(":/")
    if scheme == "models" and rest.startswith("m-") and claim.logged_model_id != rest:
        raise _other(claim.uri, "model_id")
    if scheme == "runs" and (claim.logged_model_id or claim.run_id != rest.partition("/")[0]):
        raise _other(claim.uri, "model_id" if claim.logged_model_id else "run_id")


def find_source(connection: sa.Connection, blobs: LocalBlobs, claim: Claim) -> Source:
    """Freeze the files behind a source as a tree; refuse sources that reach beyond the named run or logged model."""
    uri = claim.uri
    if is_local(uri):
        return _from_disk(connection, blobs, claim)
    check_uri(uri)
    scheme, _, rest = uri.partition(":/")
    if scheme == "models" and rest.startswith("m-"):
        if claim.logged_model_id and claim.logged_model_id != rest:
            raise _other(uri, "model_id")
        return _from_logged_model(connection, blobs, get_logged_model(connection, rest), claim)
    if scheme == "models":
        return _from_version(connection, claim, rest)
    if scheme == "runs":
        if claim.run_id and claim.run_id != rest.partition("/")[0]:
            raise _other(uri, "run_id")
        return _from_run(connection, blobs, claim, *_split_run(rest))
    if proxied_path(uri) is not None:
        return _from_artifacts(connection, blobs, claim)
    if scheme in _KEPT_ELSEWHERE:
        return _elsewhere(blobs, claim)
    raise InvalidInput(
        f"Invalid model version source: '{uri[:200]}'.", hint="Sources of this kind are not supported: log the model."
    )


def download_uri(connection: sa.Connection, uri: str) -> str:
    """Return where clients find the files of a version whose files are not kept here."""
    scheme, _, rest = uri.partition(":/")
    if scheme == "models" and rest.startswith("m-"):
        return get_logged_model(connection, rest, allow_deleted=True).artifact_uri
    return uri


def check_uri(uri: str) -> None:
    """Refuse what could be read in two ways: ``..``, escapes of it, NUL, ``#`` and ``?``."""
    decoded = uri
    for _ in range(10):
        decoded, before = unquote(decoded), decoded
        if decoded == before:
            break
    bad = ".." in decoded.replace("\\", "/").split("/") or any(mark in decoded for mark in "\0\\#?")
    if bad or len(uri) > MAX_SOURCE or not decoded.isprintable() or "%" in decoded:
        raise InvalidInput(
            f"Invalid model version source: '{uri[:200]}'. If supplying a source as an http, https, local file path, "
            "ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path "
            "references present. Please provide an absolute path."
        )
    try:
        split = urlsplit(uri)
    except ValueError as error:
        raise _other(uri, "run_id") from error
    if split.scheme in ("runs", "models") and (split.netloc or not uri.startswith(f"{split.scheme}:/")):
        raise _other(uri, "run_id" if split.scheme == "runs" else "model_id")


def _split_run(rest: str) -> tuple[str, str]:
    """Return the run's id and the path below its artifacts; empty for all of them."""
    run_id, _, path = rest.partition("/")
    path = path.strip("/")
    return run_id, check_path(path) if path else ""


def _from_logged_model(connection: sa.Connection, blobs: LocalBlobs, model: LoggedModel, claim: Claim) -> Source:
    return Source(
        uri=claim.uri, digest=_freeze(connection, blobs, model.artifact_uri, claim.local_root),
        run_id=claim.run_id or model.source_run_id or "", logged_model_id=model.id,
    )  # fmt: skip


def _from_run(connection: sa.Connection, blobs: LocalBlobs, claim: Claim, run_id: str, path: str) -> Source:
    """Take the run's artifacts below ``path``, or the logged model of that name it made.

    A run that is not known here may be another server's, if the request names it too: its files stay there.
    """
    try:
        run = get_run(connection, run_id)
    except NotFound:
        if claim.run_id == run_id:
            return _elsewhere(blobs, claim)
        raise
    digest = _freeze(connection, blobs, f"{run.artifact_uri}/{path}".rstrip("/"), claim.local_root)
    if digest == empty_tree(blobs):
        for link in run.models:
            model = get_logged_model(connection, link.model_id, allow_deleted=True)
            if link.kind == "output" and model.name == path:
                return _from_logged_model(connection, blobs, model, claim)
    return Source(uri=claim.uri, digest=digest, run_id=run_id, logged_model_id=claim.logged_model_id)


def _from_artifacts(connection: sa.Connection, blobs: LocalBlobs, claim: Claim) -> Source:
    """Take proxied artifacts below the root of the named logged model or run."""
    name = "model_id" if claim.logged_model_id else "run_id"
    root = _root_of(connection, claim, name)
    within, path = proxied_path(root), proxied_path(claim.uri) or ""
    if not within or (path != within and not path.startswith(within + "/")):
        raise _other(claim.uri, name)
    digest = _freeze(connection, blobs, claim.uri, claim.local_root)
    return Source(uri=claim.uri, digest=digest, run_id=claim.run_id, logged_model_id=claim.logged_model_id)


def _from_disk(connection: sa.Connection, blobs: LocalBlobs, claim: Claim) -> Source:
    """Take a local folder, if it is inside of the artifacts of the named run or logged model."""
    name = "model_id" if claim.logged_model_id else "run_id"
    refusal = InvalidInput(
        f"Invalid model version source: '{claim.uri[:200]}'. To use a local path as a model version source, the {name} "
        "request parameter has to be specified and the local path has to be contained within the artifact directory "
        f"of the run specified by the {name}."
    )
    if not claim.run_id and not claim.logged_model_id:
        raise refusal
    root = _root_of(connection, claim, name)
    split = urlsplit(claim.uri)
    if split.netloc not in ("", "localhost") and split.scheme == "file":
        # MLflow answers with an error of the server, and its clients' tests expect that
        raise MainspringError(f"{claim.uri[:200]} is not a valid remote uri.", hint="For local files use file:///path.")
    if split.netloc not in ("", "localhost") or not is_local(root) or "\0" in claim.uri or "%00" in claim.uri:
        raise refusal
    inside, folder = (Path(unquote(urlsplit(place).path)).resolve() for place in (root, claim.uri))
    if folder != inside and inside not in folder.parents:
        raise refusal
    digest = _freeze(connection, blobs, str(folder), claim.local_root)
    return Source(uri=claim.uri, digest=digest, run_id=claim.run_id, logged_model_id=claim.logged_model_id)


def _from_version(connection: sa.Connection, claim: Claim, rest: str) -> Source:
    """Take the files of a registered version."""
    row = _find_version(connection, rest)
    if row.is_prompt:
        raise InvalidInput(
            f"Invalid model version source: '{claim.uri[:200]}'. Prompt versions cannot be used as model version "
            "sources."
        )
    if claim.run_id not in ("", row.run_id) or claim.logged_model_id not in ("", row.logged_model_id):
        raise InvalidInput(
            f"Invalid model version source: '{claim.uri[:200]}'. The run_id and model_id request parameters must match "
            "the referenced model version."
        )
    return Source(
        uri=f"models:/{row.name}/{row.version}", digest=row.digest, run_id=row.run_id,
        logged_model_id=row.logged_model_id,
    )  # fmt: skip


def _find_version(connection: sa.Connection, rest: str) -> sa.Row[Any]:
    """Return the row that ``NAME/3``, ``NAME/latest``, ``NAME/Production`` or ``NAME@alias`` names."""
    version, model, alias, tag = (
        tables.model_version.c, tables.registered_model.c, tables.model_alias, tables.model_version_tag.c,
    )  # fmt: skip
    is_prompt = sa.exists().where(
        tag.model_id == version.model_id, tag.version == version.version, tag.key == PROMPT_TAG, tag.value == "true"
    )
    query = (
        sa.select(model.name, version.version, version.digest, version.run_id, version.logged_model_id,
                  is_prompt.label("is_prompt"))
        .join(tables.registered_model, model.id == version.model_id)
        .order_by(version.version.desc())
    )  # fmt: skip
    name, at, wanted = rest.rpartition("@")
    if at:
        pointed = sa.and_(alias.c.model_id == version.model_id, alias.c.version == version.version)
        query = query.join(alias, pointed).where(alias.c.alias == wanted)
    else:
        name, _, wanted = rest.partition("/")
        if wanted.isascii() and wanted.isdigit() and len(wanted) < 10:
            query = query.where(version.version == int(wanted))
        elif wanted.lower() != "latest":
            query = query.where(sa.func.lower(version.stage) == wanted.lower())
    row = connection.execute(query.where(model.name == name)).first()
    if row is None:
        raise NotFound(f"Model Version (name={name[:256]}, version={wanted[:20]}) not found")
    return row


def _elsewhere(blobs: LocalBlobs, claim: Claim) -> Source:
    return Source(uri=claim.uri, digest=empty_tree(blobs), run_id=claim.run_id, logged_model_id=claim.logged_model_id)


def _root_of(connection: sa.Connection, claim: Claim, name: str) -> str:
    """Return the artifact root of the named logged model or run."""
    try:
        if claim.logged_model_id:
            return get_logged_model(connection, claim.logged_model_id).artifact_uri
        if claim.run_id:
            return get_run(connection, claim.run_id).artifact_uri
    except NotFound as error:
        raise _other(claim.uri, name) from error
    raise _other(claim.uri, name)


def _freeze(connection: sa.Connection, blobs: LocalBlobs, uri: str, local_root: str) -> str:
    """Store the manifest of the files at a location; that of an empty tree if none are kept here."""
    if is_local(uri):
        try:
            return _freeze_folder(blobs, local_folder(uri, local_root))
        except InvalidInput:  # a folder of the client's, not the operator's: its files stay where they are
            return empty_tree(blobs)
    if proxied_path(uri) is None:
        return empty_tree(blobs)
    try:
        return snapshot_folder(connection, blobs, path_of_uri(uri))
    except NotFound:
        return empty_tree(blobs)


def _freeze_folder(blobs: LocalBlobs, folder: Path) -> str:
    """Store the files of a folder; links are left out, they could lead anywhere."""
    files = []
    for parent, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                digest = blobs.put_file(path)
                files.append(TreeFile(path.relative_to(folder).as_posix(), blobs.size(digest), digest))
    return put_manifest(blobs, files)


def empty_tree(blobs: LocalBlobs) -> str:
    """Return the digest of a tree without files."""
    return put_manifest(blobs, [])


def _other(uri: str, name: str) -> InvalidInput:
    return InvalidInput(
        f"Invalid model version source: '{uri[:200]}'. The {name} request parameter must identify the resource that "
        "contains the source."
    )
