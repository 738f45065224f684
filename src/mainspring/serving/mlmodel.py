"""A model folder in MLflow's format: what its MLmodel file says, and the digest of its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from mainspring.blobs import TreeFile, check_relative, digest_of, digest_of_file
from mainspring.core import Corrupt, InvalidInput, NotFound, Refused


class Signature(msgspec.Struct, frozen=True):
    """The signature section; its parts are JSON in strings."""

    inputs: str | None = None
    outputs: str | None = None
    params: str | None = None


class MLmodel(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an MLmodel file that serving needs."""

    flavors: dict[str, dict[str, Any]]
    signature: Signature | None = None
    saved_input_example_info: dict[str, Any] | None = None


def read_mlmodel(folder: Path) -> MLmodel:
    """Read the MLmodel file of a model folder."""
    path = folder / "MLmodel"
    if not path.is_file():
        raise NotFound(f"{folder} is not a model: it has no MLmodel file.")
    try:
        return msgspec.convert(yaml.safe_load(path.read_bytes()), MLmodel)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error


def tree_digest(folder: Path) -> str:
    """Return the digest of the manifest of every file below ``folder``; links are refused."""
    files = []
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise Refused(f"The model folder {folder} holds a link, {path.name}.", hint="Copy the file instead.")
        if path.is_file():
            relative = path.relative_to(folder).as_posix()
            files.append(TreeFile(relative, path.stat().st_size, digest_of_file(path)))
    return digest_of(msgspec.json.encode(sorted(files, key=lambda file: file.path)))


def check_tree(folder: Path, digest: str) -> None:
    """Hash a model folder again; raise `Corrupt` if it is not what was registered."""
    if not folder.is_dir():
        raise NotFound(f"There is no model folder {folder}.")
    actual = tree_digest(folder)
    if actual != digest:
        raise Corrupt(
            f"The model folder {folder} has digest {actual}, the deployment names {digest}.",
            hint="Its files were changed: materialise the registered version again.",
        )


def data_path(folder: Path, flavor: dict[str, Any]) -> Path:
    """Return the path a flavour's ``data`` names, inside the folder."""
    data = flavor.get("data")
    if not isinstance(data, str):
        raise InvalidInput(f"The MLmodel file in {folder} names no data.")
    return folder / check_relative(data)


def tree_size(folder: Path) -> int:
    """Return the bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
