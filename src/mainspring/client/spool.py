"""A run's spool: a file that is only appended to, in which everything logged is safe before it is sent.

The file is named after the run. Whoever appends to or sends it holds a lock on it, so a spool nobody holds was left
behind. Beside it lie a small state file (how much has arrived, and under which id the run is known there) and a folder
with copies of logged files. What is in the spool survives the end of the process by any means; it is synced to the
disk when the run ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mainspring.client.records import RunStart, decode_header, encode_header
from mainspring.core import Corrupt, Unavailable

SPOOL_FOLDER = "spool"
"""The folder of the spools in the home folder."""
SUFFIX = ".spool"
CHUNK = 1 << 20
COMPACT_BYTES = 64 << 20
"""A spool of this size is rid of what has arrived."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many bytes of the spool have arrived, and the run's id where they arrived; empty if it has none yet."""

    offset: int = 0
    run_id: str = ""


class Spool:
    """An open, locked spool."""

    def __init__(self, path: Path, descriptor: int, start: RunStart, header_size: int) -> None:
        self.path = path
        self.start = start
        self._descriptor = descriptor
        self._is_torn = False
        self._lock = threading.Lock()
        self._header_size = header_size
        self._dropped = 0
        self._state = path.with_suffix(".state")
        self.progress = self._read_progress(header_size)

    @property
    def files(self) -> Path:
        """The folder with copies of logged files."""
        return self.path.with_suffix(".files")

    @property
    def size(self) -> int:
        """How many bytes are in the file."""
        return os.fstat(self._descriptor).st_size

    @property
    def acknowledged(self) -> int:
        """How many bytes have ever been acknowledged, also those that are not in the file any more."""
        with self._lock:
            return self.size + self._dropped

    @property
    def arrived(self) -> int:
        """How many bytes have ever arrived."""
        with self._lock:
            return self.progress.offset + self._dropped

    @property
    def last_write_ms(self) -> int:
        """When the last line was written, in ms since the epoch."""
        return os.fstat(self._descriptor).st_mtime_ns // 1_000_000

    def append(self, lines: bytes) -> None:
        """Write complete lines with one call; they are acknowledged when it returns."""
        with self._lock:
            if self._is_torn:
                lines = b"\n" + lines
            try:
                written = os.write(self._descriptor, lines)
            except OSError as error:
                raise _full(self.path, error.strerror) from error
            self._is_torn = written != len(lines)
            if self._is_torn:
                raise _full(self.path, f"{written} of {len(lines)} bytes were written")

    def read(self, limit: int = CHUNK) -> bytes:
        """Return the next bytes that have not arrived: whole lines, at least one if there is one."""
        chunk = os.pread(self._descriptor, limit, self.progress.offset)
        while len(chunk) == limit and b"\n" not in chunk:
            limit *= 2
            chunk = os.pread(self._descriptor, limit, self.progress.offset)
        return chunk[: chunk.rfind(b"\n") + 1]

    def advance(self, offset: int, run_id: str) -> None:
        """Remember that everything before ``offset`` has arrived under ``run_id``."""
        self.progress = Progress(offset, run_id)
        aside = self._state.with_suffix(".state-new")
        aside.write_text(json.dumps([offset, run_id]))
        aside.replace(self._state)

    def compact(self) -> None:
        """If the file has grown large, drop what has arrived; the little that has not moves to the front.

        The note that nothing has arrived comes first and the file is cut last, so if we die in between, everything
        that is left is sent again, which changes nothing.
        """
        with self._lock:
            size, offset = self.size, self.progress.offset
            if size <= COMPACT_BYTES or size - offset > min(size // 2, CHUNK):
                return
            tail = os.pread(self._descriptor, size - offset, offset)
            self.advance(self._header_size, self.progress.run_id)
            with self.path.open("r+b", buffering=0) as file:  # our own descriptor can only append
                file.seek(self._header_size)
                file.write(tail)
            os.ftruncate(self._descriptor, self._header_size + len(tail))
            self._dropped += offset - self._header_size

    def sync(self) -> None:
        """Bring everything to the disk."""
        os.fsync(self._descriptor)

    def remove(self) -> None:
        """Remove the spool after everything has arrived."""
        shutil.rmtree(self.files, ignore_errors=True)
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the spool go; what has not arrived stays in the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_progress(self, header_size: int) -> Progress:
        try:
            offset, run_id = json.loads(self._state.read_bytes())
            return Progress(int(offset), str(run_id))
        except (OSError, ValueError, TypeError):
            return Progress(header_size, "" if self.start.is_new else self.start.run_id)


def create_spool(folder: Path, start: RunStart) -> Spool:
    """Make and lock the spool of a run in ``folder``; raise `Unavailable` if it cannot be written."""
    path = folder / f"{start.run_id}.{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
    header = encode_header(start)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise Unavailable(
            f"The spool {path} cannot be made: {error.strerror}.", hint="Set MAINSPRING_HOME to a folder you may write."
        ) from error
    spool = Spool(path, descriptor, start, len(header))
    spool.append(header)
    return spool


def open_spool(path: Path) -> Spool | None:
    """Open and lock a spool that was left behind; None if somebody holds it, or it has gone or is still empty.

    Raises `Corrupt` if it is none.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        header = _first_line(descriptor)
        if os.fstat(descriptor).st_nlink and header:
            return Spool(path, descriptor, decode_header(header), len(header))
    except BlockingIOError:
        pass
    except Corrupt as error:
        os.close(descriptor)
        raise Corrupt(f"{path}: {error.message}", hint="It is left where it is.") from error
    os.close(descriptor)
    return None


def find_spools(folder: Path, run_id: str = "") -> Iterator[Path]:
    """Yield the spools in a folder, of one run if it is named."""
    yield from sorted(folder.glob(f"{run_id or '*'}.*{SUFFIX}"))


def _first_line(descriptor: int) -> bytes:
    limit = CHUNK
    chunk = os.pread(descriptor, limit, 0)
    return chunk[: chunk.find(b"\n") + 1]


def _full(path: Path, why: str | None) -> Unavailable:
    return Unavailable(f"The spool {path} cannot be written: {why}.", hint="Is the disk full?")
