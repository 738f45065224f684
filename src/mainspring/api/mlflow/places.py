"""Artifacts by location: list and read what is proxied, or below the operator's own ``--artifact-root``."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from mainspring import tracking
from mainspring.core import Conflict, InvalidInput, NotFound
from mainspring.lineage import Store
from mainspring.tracking import FileInfo


def local_root(store: Store) -> str:
    """Return the operator's artifact root if it is a local folder, else nothing."""
    root = tracking.root_location(store.settings.values.artifact_root)
    return root if tracking.is_local(root) else ""


def check_relative_path(path: str) -> str:
    """Return a client's path below an artifact root without a trailing slash; refuse it as MLflow does."""
    if path in ("", ".", "./"):
        return ""
    try:
        return tracking.check_path(path.rstrip("/"))
    except InvalidInput as error:
        raise InvalidInput("Invalid path") from error


def list_location(connection: sa.Connection, store: Store, root: str, below: str) -> list[FileInfo]:
    """Return the entries of a folder below an artifact root; none if it is not there."""
    if tracking.is_local(root):
        return _list_disk(tracking.local_folder(root, local_root(store), below))
    folder = tracking.proxied_path(f"{root}/{below}" if below else root)
    if folder is None:
        raise InvalidInput(
            f"The artifacts at {root[:100]!r} are not behind this server.", hint="Read them where they are."
        )
    return tracking.list_folder(connection, store.blobs, tracking.check_path(folder))


def find_file(connection: sa.Connection, store: Store, root: str, path: str) -> Path:
    """Return the path on disk of one artifact, verified if it is kept here; raise `NotFound`."""
    if tracking.is_local(root):
        found = tracking.local_folder(root, local_root(store), path)
        if not found.is_file():
            raise NotFound(f"No such artifact: '{path[:200]}'")
        return found
    uri = tracking.proxied_path(f"{root}/{path}")
    if uri is None:
        raise InvalidInput(
            f"The artifacts at {root[:100]!r} are not behind this server.", hint="Read them where they are."
        )
    try:
        return store.blobs.path(tracking.get_file(connection, store.blobs, uri).digest)
    except NotFound as error:
        raise NotFound(f"No such artifact: '{path[:200]}'") from error


def write_local(store: Store, root: str, path: str, data: bytes) -> None:
    """Write one artifact of a run whose artifacts are plain files below the operator's ``--artifact-root``."""
    target = tracking.local_folder(root, local_root(store), path)
    aside = target.with_name(f"{target.name}.{os.urandom(6).hex()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise Conflict(f"{path[:200]!r} cannot be written: {error.strerror}.", hint="Choose another path.") from error


def _list_disk(folder: Path) -> list[FileInfo]:
    if not folder.is_dir():
        return []
    entries = sorted(entry for entry in folder.iterdir() if not entry.is_symlink())
    return [
        FileInfo(
            path=entry.name, is_folder=entry.is_dir(), size=None if entry.is_dir() else entry.stat().st_size
        )
        for entry in entries
    ]  # fmt: skip
