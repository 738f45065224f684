"""What is in an exported folder: every file with its digest, so that a changed one is noticed.

A folder without a manifest is an export that was interrupted: the manifest is written last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mainspring.blobs import check_relative, digest_of_file
from mainspring.core import Corrupt, InvalidInput, MainspringError, NotFound

FORMAT = "mainspring-export-1"
FILE_NAME = "manifest.json"


class TableEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A table: ``tables/NAME.jsonl``."""

    rows: int
    digest: str


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the home folder, below ``files/``."""

    path: str
    size: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in an exported folder. ``blobs`` are digests, each the name of a file below ``blobs/``."""

    format: str
    schema: str
    project: str
    created_at: int
    tables: dict[str, TableEntry]
    blobs: dict[str, int]
    files: list[FileEntry]


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write the manifest and return its digest."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / FILE_NAME).write_bytes(content)
    return "sha256:" + hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path, *, digest: str = "") -> Manifest:
    """Read the manifest; raise `NotFound` if there is none, `Corrupt` if it is not the one of this ``digest``."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise NotFound(f"There is no {FILE_NAME} in {folder}.", hint="Name a folder that `mainspring export` finished.")
    content = path.read_bytes()
    found = "sha256:" + hashlib.sha256(content).hexdigest()
    if digest and found != digest:
        raise Corrupt(f"The manifest in {folder} has the digest {found}, not {digest}.", hint="It was changed.")
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"The manifest in {folder} cannot be read: {error}.") from error
    if manifest.format != FORMAT:
        raise InvalidInput(f"{folder} has the format {manifest.format[:50]!r}.", hint=f"This version reads {FORMAT}.")
    return manifest


def table_path(folder: Path, name: str) -> Path:
    """Return where a table is."""
    return folder / "tables" / f"{name}.jsonl"


def blob_path(folder: Path, digest: str) -> Path:
    """Return where a blob is."""
    name = digest.removeprefix("sha256:")
    return folder / "blobs" / name[:2] / name[2:]


def check_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Verify every file of an export against the manifest, and that there are no others; yield each as it is done."""
    wanted = {table_path(folder, name): entry.digest for name, entry in manifest.tables.items()}
    try:
        wanted |= {folder / "files" / check_relative(entry.path): entry.digest for entry in manifest.files}
    except MainspringError as error:
        raise Corrupt(f"The manifest in {folder} names a file outside of it: {error}") from error
    wanted |= {blob_path(folder, digest): digest for digest in manifest.blobs}
    for path, digest in wanted.items():
        if not path.is_file() or path.is_symlink():
            raise Corrupt(f"{path} is missing.", hint="The export is not complete: copy it again.")
        if digest_of_file(path) != digest:
            raise Corrupt(f"{path} does not match its digest.", hint="It was changed: import a copy that was not.")
        yield path.name
    for path in folder.rglob("*"):
        if not path.is_dir() and path not in wanted and path != folder / FILE_NAME:
            raise Corrupt(f"{path} is not in the manifest.", hint="Something was added to the export: remove it.")
