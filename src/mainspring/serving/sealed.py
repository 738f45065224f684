"""Sealed files: finished segments as one Parquet file each, named by its digest in the folder's manifest.

The manifest is the commit: a segment it names is read from the sealed file, whether or not it is still there. Each
entry names the digest of the one before it, so that none can be taken out or exchanged unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from mainspring.core import Corrupt
from mainspring.serving.deployment import write_atomically

MANIFEST = "sealed.json"


class SealedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file with the records of some segments."""

    digest: str
    path: str
    """Of the blob, relative to the log's folder."""
    bytes: int
    records: int
    start: int
    """The earliest ``received_at``."""
    end: int
    """One more than the latest ``received_at``."""
    segments: list[str]
    sealed_at: int
    previous: str
    """Digest of the file sealed before; empty for the first."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What has been sealed of a log, oldest first."""

    files: list[SealedFile] = []

    @property
    def segments(self) -> frozenset[str]:
        """The names of all segments that were sealed."""
        return frozenset(name for file in self.files for name in file.segments)

    @property
    def last(self) -> str:
        """The digest of the newest file; empty if there is none."""
        return self.files[-1].digest if self.files else ""

    def holding(self, segment: str) -> SealedFile | None:
        """Return the file a segment was sealed into."""
        return next((file for file in self.files if segment in file.segments), None)


def read_manifest(folder: Path) -> Manifest:
    """Read a log's manifest and check its chain; a log of which nothing was sealed has an empty one."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return Manifest()
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corrupt(f"The manifest {folder / MANIFEST} cannot be read: {error}.") from error
    before = ""
    for file in manifest.files:
        if file.previous != before:
            raise Corrupt(
                f"The manifest {folder / MANIFEST} does not hold together at {file.digest}.",
                hint="An entry was removed or exchanged: restore the manifest from a backup.",
            )
        before = file.digest
    return manifest


def write_manifest(folder: Path, files: Iterable[SealedFile]) -> None:
    """Write a log's manifest: whole and synced, or not at all."""
    write_atomically(folder / MANIFEST, msgspec.json.encode(Manifest(files=list(files))))


def verified_path(folder: Path, file: SealedFile) -> Path:
    """Return where a sealed file is, its bytes hashed and compared; raise `Corrupt` if they are not what was sealed."""
    path = folder / file.path
    try:
        with path.open("rb") as opened:
            actual = "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise Corrupt(
            f"The sealed log file {file.digest} is not at {path}.", hint="Restore it from a backup of the blobs."
        ) from error
    if actual != file.digest:
        raise Corrupt(
            f"The sealed log file {path} was changed after it was sealed.",
            hint="Restore it from a backup; what is in it cannot be trusted.",
        )
    return path
