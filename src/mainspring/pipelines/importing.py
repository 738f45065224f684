"""Artifacts that exist already: importers inside a pipeline, and artifacts that are arguments of the pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import InvalidInput, Json
from mainspring.pipelines import ir
from mainspring.pipelines.exchange import store_bytes
from mainspring.pipelines.placeholders import Lookup, fill_placeholders
from mainspring.pipelines.plan import Importer
from mainspring.pipelines.values import ArtifactValue, Values

_REMOTE = re.compile(r"(?!file://)[A-Za-z][A-Za-z0-9+.-]*://")


class ArtifactArgument(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact given to a pipeline: where its bytes are, and what is said about it."""

    uri: str
    metadata: dict[str, Any] = {}


def run_importer(
    importer: Importer, given: Mapping[str, Any], job: Mapping[str, str], blobs: LocalBlobs, folder: Path
) -> Values:
    """Take in the artifact of an importer; bytes on this machine are stored, other addresses are kept as they are."""
    lookup = Lookup(parameters=given, job=job)
    uri = str(fill_placeholders(importer.uri, lookup) if importer.uri else given.get(importer.parameter) or "")
    if not uri:
        raise InvalidInput("Its artifactUri is empty.", hint="Give the importer an address.")
    metadata = fill_placeholders(dict(importer.metadata), lookup)
    value = take_in(uri, metadata, importer.type, importer.schema_version, blobs, folder)
    return Values(artifacts={"artifact": msgspec.structs.replace(value, name="artifact")})


def take_in(
    uri: str, metadata: dict[str, Any], type: str, schema_version: str, blobs: LocalBlobs, folder: Path
) -> ArtifactValue:
    """Make an artifact of what is at an address; a path is relative to ``folder``."""
    if _REMOTE.match(uri):
        kind, digest = "empty", None
    else:
        kind, digest = store_bytes(blobs, folder / uri.removeprefix("file://"))
    return ArtifactValue(
        id="",
        name="",
        type=type,
        schema_version=schema_version,
        kind=kind,  # type: ignore[arg-type]
        digest=digest,
        uri=digest or uri,
        metadata=metadata,
    )


def split_arguments(
    arguments: Mapping[str, Any], specs: Mapping[str, ir.ArtifactSpec], owner: str
) -> tuple[dict[str, Any], dict[str, list[ArtifactArgument]]]:
    """Split the arguments of a pipeline into parameters and artifacts; raise `InvalidInput` for what is missing."""
    parameters = {name: value for name, value in arguments.items() if name not in specs}
    artifacts: dict[str, list[ArtifactArgument]] = {}
    for name, spec in specs.items():
        value = arguments.get(name)
        if value is None and not spec.is_optional:
            raise InvalidInput(
                f"{owner} needs the artifact {name!r} ({spec.artifact_type.title}).", hint=f"Pass {name}=PATH-OR-URI."
            )
        if value is not None:
            given = value if isinstance(value, list) else [value]
            artifacts[name] = [_argument(name, item, owner) for item in given]
            if len(given) != 1 and not spec.is_artifact_list:
                raise InvalidInput(f"{owner}, artifact {name!r}: one is wanted, {len(given)} are given.")
    return parameters, artifacts


def store_arguments(
    artifacts: Mapping[str, list[ArtifactArgument]],
    specs: Mapping[str, ir.ArtifactSpec],
    blobs: LocalBlobs,
    folder: Path,
) -> Values:
    """Take in the artifacts given to a pipeline; raise `InvalidInput` for a path where nothing is."""
    stored = Values()
    for name, given in artifacts.items():
        schema = specs[name].artifact_type
        values = []
        for item in given:
            value = take_in(item.uri, item.metadata, schema.title, schema.schema_version, blobs, folder)
            if value.kind == "empty" and not _REMOTE.match(item.uri):
                raise InvalidInput(f"There is nothing at {item.uri}, the artifact {name!r}.", hint="Check the path.")
            values.append(msgspec.structs.replace(value, name=name))
        if specs[name].is_artifact_list:
            stored.lists[name] = tuple(values)
        else:
            stored.artifacts[name] = values[0]
    return stored


def _argument(name: str, value: Json, owner: str) -> ArtifactArgument:
    if isinstance(value, str):
        return ArtifactArgument(uri=value)
    try:
        return msgspec.convert(value, ArtifactArgument)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"{owner}, artifact {name!r}: {error}.", hint='Pass a path, a URI, or {"uri": …, "metadata": {…}}.'
        ) from error
