"""Folders as one blob: a canonical JSON manifest that names every file by its digest."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import msgspec

from mainspring.blobs.local import LocalBlobs
from mainspring.core import InvalidInput

_DRIVE_OR_SCHEME = re.compile(r"(^|/)[A-Za-z]:|:(/|$)")


class TreeFile(msgspec.Struct, frozen=True):
    """One file of a tree: its relative POSIX path, size in bytes and digest."""

    path: str
    size: int
    digest: str


def put_tree(blobs: LocalBlobs, folder: Path) -> str:
    """Store every file below ``folder`` and return the digest of the manifest."""
    files = [
        TreeFile(path.relative_to(folder).as_posix(), path.stat().st_size, blobs.put_file(path))
        for path in folder.rglob("*")
        if path.is_file()
    ]
    return put_manifest(blobs, files)


def put_manifest(blobs: LocalBlobs, files: list[TreeFile]) -> str:
    """Store the manifest of files that are stored already and return its digest."""
    for file in files:
        check_relative(file.path)
    return blobs.put(msgspec.json.encode(sorted(files, key=lambda file: file.path)))


def read_tree(blobs: LocalBlobs, digest: str) -> list[TreeFile]:
    """Return the files of a tree, sorted by path."""
    return msgspec.json.decode(blobs.read(digest), type=list[TreeFile])


def get_tree(blobs: LocalBlobs, digest: str, destination: Path) -> Path:
    """Write a verified copy of the tree to ``destination`` and return it."""
    for file in read_tree(blobs, digest):
        blobs.copy_to(file.digest, destination / check_relative(file.path))
    return destination


def check_relative(path: str) -> PurePosixPath:
    """Return ``path`` if it stays inside the folder it is relative to; refuse it otherwise.

    Absolute paths, ``..``, backslashes, drive letters, schemes, NULs and percent-encoded tricks are refused, not
    cleaned. A colon inside of a name is fine: ``12:30.txt``.
    """
    pure = PurePosixPath(path)
    bad = (
        not path
        or pure.is_absolute()
        or any(part in ("..", ".") for part in path.split("/"))
        or any(mark in path for mark in ("\\", "\0", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "%25"))
        or _DRIVE_OR_SCHEME.search(path) is not None
    )
    if bad:
        raise InvalidInput(f"The path {path[:200]!r} is not allowed.", hint="Use a relative path without '..'.")
    return pure
