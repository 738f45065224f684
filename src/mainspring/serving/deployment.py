"""The deployment file: which model versions answer at an endpoint, and with what share of the traffic."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from mainspring.blobs import check_digest
from mainspring.core import InvalidInput, NotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class ModelReference(msgspec.Struct, frozen=True, kw_only=True):
    """A model version and the folder its files were materialised in."""

    name: str
    version: str
    digest: str
    """Digest of the folder's tree manifest; the endpoint hashes the folder again before it loads it."""
    folder: str


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One model version behind the endpoint."""

    name: str
    weight: int
    """Integer percent of the requests it answers."""
    mirror: bool = False
    """Also predict, after the answer, the requests it was not chosen for."""
    model: ModelReference


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an endpoint process has to know."""

    endpoint: str
    revision: int
    variants: list[Variant]
    split_field: str = ""
    """Input column whose value in the first row keeps a client with its variant, where no header does."""


def read_deployment(path: Path) -> Deployment:
    """Read and check a deployment file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no deployment file at {path}.") from error
    try:
        deployment = msgspec.json.decode(data, type=Deployment)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The deployment file {path} cannot be read: {error}.") from error
    return check_deployment(deployment)


def write_deployment(path: Path, deployment: Deployment) -> None:
    """Check a deployment and write it to ``path``: whole and synced, or not at all."""
    write_atomically(path, msgspec.json.encode(check_deployment(deployment)))


def check_deployment(deployment: Deployment) -> Deployment:
    """Return the deployment if its names are usable and its weights sum to 100; raise `InvalidInput` otherwise."""
    variants = deployment.variants
    versions = [variant.model.version for variant in variants]
    for name in (deployment.endpoint, *(variant.name for variant in variants), *versions):
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"{name[:130]!r} is not a usable name.", hint="Use letters, digits, dot, dash.")
    if len({variant.name for variant in variants}) != len(variants):
        raise InvalidInput(f"Endpoint {deployment.endpoint} has two variants with the same name.")
    weights = [variant.weight for variant in variants]
    if any(weight < 0 for weight in weights) or sum(weights) != 100:
        raise InvalidInput(
            f"The weights of endpoint {deployment.endpoint} are {weights}.", hint="They must sum to 100."
        )
    for variant in variants:
        check_digest(variant.model.digest)
    return deployment


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at ``path``: written aside, synced, renamed, folder synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
