"""Bytes on the local disk, addressed by their content.

A blob appears whole or not at all (written aside, synced, renamed), is never changed (mode 0444), and is
hashed again whenever it is read: bytes that do not match their name are refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mainspring.blobs.digest import CHUNK, check_digest, digest_of_file
from mainspring.core import Corrupt, NotFound


class LocalBlobs:
    """A folder of content-addressed blobs: ``sha256/ab/cdef…``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store ``data`` and return its digest."""
        return self.put_stream([data])

    def put_file(self, source: Path) -> str:
        """Store a copy of the file at ``source`` and return its digest."""
        with source.open("rb") as file:
            return self.put_stream(iter(lambda: file.read(CHUNK), b""))

    def put_stream(self, chunks: Iterable[bytes]) -> str:
        """Store the concatenated chunks and return their digest; durable when it returns."""
        with self.writer() as writer:
            for chunk in chunks:
                writer.write(chunk)
        return writer.digest

    @contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """Open a writer; when the block ends well, the blob is stored and ``writer.digest`` names it."""
        writer = BlobWriter(self._incoming)
        try:
            yield writer
            writer.seal(self._place)
        finally:
            writer.discard()

    def read(self, digest: str) -> bytes:
        """Return the bytes of a blob, verified against its digest."""
        data = self._locate(digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != check_digest(digest):
            raise _tampered(digest)
        return data

    def path(self, digest: str) -> Path:
        """Return the path of a blob, verified against its digest; the file is read-only."""
        path = self._locate(digest)
        if digest_of_file(path) != digest:
            raise _tampered(digest)
        return path

    def copy_to(self, digest: str, destination: Path) -> None:
        """Write a verified copy of a blob to ``destination``, atomically."""
        source = self.path(digest)
        destination.parent.mkdir(parents=True, exist_ok=True)
        aside = destination.with_name(destination.name + ".part")
        shutil.copyfile(source, aside)
        aside.replace(destination)

    def size(self, digest: str) -> int:
        """Return a blob's size in bytes."""
        return self._locate(digest).stat().st_size

    def exists(self, digest: str) -> bool:
        """Say whether the blob is stored here."""
        return self._place(digest).is_file()

    def delete(self, digest: str) -> None:
        """Remove a blob; for garbage collection only."""
        self._locate(digest).unlink()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the digests of all blobs."""
        for path in sorted(self.root.glob("sha256/??/*")):
            yield f"sha256:{path.parent.name}{path.name}"

    def _place(self, digest: str) -> Path:
        name = check_digest(digest)
        return self.root / "sha256" / name[:2] / name[2:]

    def _locate(self, digest: str) -> Path:
        path = self._place(digest)
        if not path.is_file():
            raise NotFound(f"There is no blob {digest} in {self.root}.", hint="Was the store moved or pruned?")
        return path


class BlobWriter:
    """Collects bytes aside until they are sealed under their digest."""

    def __init__(self, incoming: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=incoming)
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return "sha256:" + self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def seal(self, place: Callable[[str], Path]) -> None:
        """Sync, make read-only and rename to the final place."""
        target = place(self.digest)
        if target.is_file() and target.stat().st_size == self.size and digest_of_file(target) == self.digest:
            return
        self._file.flush()
        os.fchmod(self._file.fileno(), 0o444)
        os.fsync(self._file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)
        _sync_folder(target.parent)

    def discard(self) -> None:
        """Close, and remove what was not sealed."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tampered(digest: str) -> Corrupt:
    return Corrupt(
        f"The bytes of blob {digest} do not match their digest.",
        hint="They were changed on disk: restore the blob from a backup, it will not be used as it is.",
    )
