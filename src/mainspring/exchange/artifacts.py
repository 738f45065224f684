"""Where an MLflow store keeps its artifacts on this machine, and how they come into ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from mainspring.blobs import LocalBlobs, TreeFile, put_manifest
from mainspring.core import Clock, InvalidInput, MainspringError
from mainspring.exchange.records import BadRow
from mainspring.tracking import check_path, put_file

PROXY = "mlflow-artifacts"
_LOCAL = ("", "file")


@dataclass(frozen=True, slots=True)
class ArtifactRoots:
    """How to get from MLflow's URIs to folders, and which of them may be read.

    MLflow lets clients choose locations, so a location outside of the folders named here is not read: it could be
    anything on this disk.
    """

    proxied: Path | None
    """The server's ``--artifacts-destination``: what ``mlflow-artifacts:/`` stands for."""
    working: Path
    """The folder the server was started in, for relative locations."""
    allowed: tuple[Path, ...]
    """Folders below which locations may lie."""

    def folder_of(self, uri: str) -> Path | None:
        """Return the folder of a URI, or None if it is not on this machine or not to be read."""
        parts = urlsplit(uri)
        if parts.scheme == PROXY:
            found = None if self.proxied is None else self.proxied / parts.path.strip("/")
        elif parts.scheme in _LOCAL and parts.netloc in ("", "localhost"):
            found = self.working / (unquote(parts.path) if parts.scheme else parts.path)
        else:
            return None
        if found is None or not any(_is_below(found, folder) for folder in (*self.allowed, self.proxied) if folder):
            return None
        return found


def find_roots(uri: str, artifacts: Path | None) -> ArtifactRoots:
    """Return the folders that belong to an MLflow store: those beside it, and the one that was named.

    Without a name, a folder ``mlartifacts`` beside the database or in the current folder is the server's; two of them
    are one too many to guess.
    """
    working = Path.cwd()
    beside = [working, *_places(uri, working)]
    defaults = list(dict.fromkeys(folder / name for folder in beside for name in ("mlruns", "mlartifacts")))
    if artifacts is not None:
        return ArtifactRoots(artifacts, working, (*defaults, artifacts, *_file_store(uri, working)))
    proxied = [folder for folder in defaults if folder.name == "mlartifacts" and folder.is_dir()]
    if len(proxied) > 1:
        raise InvalidInput(
            f"Both {proxied[0]} and {proxied[1]} could hold the artifacts.", hint="Name one: --artifacts FOLDER."
        )
    return ArtifactRoots(proxied[0] if proxied else None, working, (*defaults, *_file_store(uri, working)))


def _places(uri: str, working: Path) -> list[Path]:
    """Return the folder in which a database file or a file store lies."""
    if uri.startswith("sqlite:"):
        return [(working / (make_url(uri).database or "")).resolve().parent]
    return [folder.parent for folder in _file_store(uri, working)]


def _file_store(uri: str, working: Path) -> list[Path]:
    parts = urlsplit(uri)
    if parts.scheme not in _LOCAL:
        return []
    return [(working / (unquote(parts.path) if parts.scheme else uri)).resolve()]


def _is_below(path: Path, folder: Path) -> bool:
    inside, found = folder.resolve(), path.resolve()
    return found == inside or inside in found.parents


def is_remote(uri: str) -> bool:
    """Say whether a URI leads to an object store that clients reach by themselves: it is kept as it is."""
    return urlsplit(uri).scheme not in (*_LOCAL, PROXY, "http", "https")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file whose bytes are stored: its path below the artifact root, its digest and size."""

    path: str
    digest: str
    size: int


def store_files(blobs: LocalBlobs, folder: Path, target: str) -> Iterator[StoredFile | BadRow]:
    """Store the bytes of every file below ``folder``, for paths below ``target``; links to outside are refused."""
    inside = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if inside not in path.resolve().parents:
            yield BadRow("artifact", f"{target}/{name}", "it is a link to a place outside of the artifacts")
            continue
        try:
            check_path(f"{target}/{name}")
            yield StoredFile(f"{target}/{name}", blobs.put_file(path), path.stat().st_size)
        except (MainspringError, OSError) as error:
            yield BadRow("artifact", f"{target}/{name}", str(error))


def store_tree(blobs: LocalBlobs, folder: Path) -> tuple[str, list[BadRow]]:
    """Store every file below ``folder`` as one tree; return its digest and what is not in it."""
    found = list(store_files(blobs, folder, "tree"))
    files = [
        TreeFile(item.path.removeprefix("tree/"), item.size, item.digest)
        for item in found
        if isinstance(item, StoredFile)
    ]
    return put_manifest(blobs, files), [item for item in found if isinstance(item, BadRow)]


def place_files(connection: sa.Connection, clock: Clock, files: list[StoredFile]) -> None:
    """Let the paths lead to the stored bytes."""
    for file in files:
        put_file(connection, clock, file.path, digest=file.digest, size=file.size)
