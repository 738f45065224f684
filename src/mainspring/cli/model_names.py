"""How commands name a model: in the registry, among a run's artifacts, or as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.cli.project import open_existing
from mainspring.core import InvalidInput, NotFound

if TYPE_CHECKING:
    import typer

    from mainspring.serving import ModelReference

HELP = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/PATH, or a model folder."
_STORED = ("models:/", "runs:/")


def is_stored(text: str) -> bool:
    """Say whether a name is one of the project's store, not a folder."""
    return text.startswith(_STORED)


def find_model(context: typer.Context, text: str) -> ModelReference:
    """Return the model a name means, with its files in a folder; raise `NotFound`, or `InvalidInput` for addresses."""
    return _from_store(context, text) if is_stored(text) else _from_folder(text)


def model_folder(text: str) -> Path:
    """Return the folder of an MLflow model; an address of anything else is refused, nothing is downloaded."""
    path = Path(text.removeprefix("file://"))
    if "://" in text and not text.startswith("file://"):
        raise InvalidInput(f"{text[:100]!r} is not read from.", hint="Register it, or pass a folder.")
    if not (path / "MLmodel").is_file():
        raise NotFound(f"There is no MLmodel file in {path}.", hint="Name a folder that MLflow saved a model in.")
    return path.resolve()


def _from_store(context: typer.Context, uri: str) -> ModelReference:
    from mainspring.registry import Claim, find_source, materialise, resolve
    from mainspring.serving import ModelReference

    store = open_existing(context)
    with store.database.read() as connection:
        if uri.startswith(("runs:/", "models:/m-")):
            digest = find_source(connection, store.blobs, Claim(uri=uri)).digest
            name, version = uri.rstrip("/").rpartition("/")[2], digest.removeprefix("sha256:")[:12]
        else:
            found = resolve(connection, uri)
            name, version, digest = found.name, found.version, found.digest
    folder = materialise(store.blobs, digest, store.settings.home / "models")
    if not (folder / "MLmodel").is_file():
        raise NotFound(f"{uri} holds no model in MLflow's format.", hint="Name the folder its MLmodel file is in.")
    return ModelReference(name=name, version=version, digest=digest, folder=str(folder))


def _from_folder(text: str) -> ModelReference:
    from mainspring.serving import ModelReference
    from mainspring.serving.mlmodel import tree_digest

    folder = model_folder(text)
    digest = tree_digest(folder)
    version = digest.removeprefix("sha256:")[:12]
    return ModelReference(name=folder.name, version=version, digest=digest, folder=str(folder))
