"""Append-only segments of JSON lines: what was acknowledged is in them, whenever the process dies.

One process writes one segment at a time, ``<start ms>-<pid>-<n>-<random>.jsonl``, and holds a lock on it as long as it
may append: whoever gets the lock knows that the segment is finished. A batch is one `os.write` of its records and a
check line, ``{"check":C,"records":N}``, where C is the CRC-32 of all batches of the segment so far: a batch counts
when its check line is there, and a record that was changed, removed or put in afterwards is noticed. Only the end of
a segment can be torn (by a kill in the middle of a write), and nothing is ever appended after it. A segment ends after
8 MiB or when the clock's UTC day changes, so that readers can skip by name.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from mainspring.core import Clock, Unavailable

DAY_MS = 86_400_000
SEGMENT_BYTES = 8 << 20
CHECK_MARK = b'{"check":'


class SegmentLog:
    """Writes records to the segments of one folder."""

    def __init__(self, folder: Path, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.written = 0
        """Bytes appended by this process."""
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._encode = msgspec.json.Encoder(enc_hook=_plain).encode_lines
        self._descriptor = -1
        self._size = 0
        self._check = 0
        self._day = -1
        self._count = 0

    def append(self, records: Iterable[msgspec.Struct]) -> None:
        """Append a batch in one write; raise `Unavailable` (and leave no partial line) if the disk refuses it."""
        batch = list(records)
        if not batch:
            return
        lines = self._encode(batch)
        try:
            self._rotate_if_due()
            check = zlib.crc32(lines, self._check)
            data = lines + b'{"check":%d,"records":%d}\n' % (check, len(batch))
            written = os.write(self._descriptor, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError as error:
            self._cut()
            raise Unavailable(
                f"The log in {self.folder.name} cannot be written: {error}.", hint="Free disk space; nothing is lost."
            ) from error
        self._check = check
        self._size += written
        self.written += written

    def close(self) -> None:
        """End the current segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cut(self) -> None:
        """Remove a partial batch; a segment that cannot be cut is left as torn, and the next batch begins a new one."""
        if self._descriptor >= 0:
            try:
                os.ftruncate(self._descriptor, self._size)
            except OSError:
                self.close()

    def _rotate_if_due(self) -> None:
        now = self._clock.now_ms()
        if self._descriptor < 0 or now // DAY_MS != self._day or self._size >= self._segment_bytes:
            self.close()
            self._open(now)

    def _open(self, now: int) -> None:
        """Make a segment and lock it before it gets the name that readers look for."""
        while self._descriptor < 0:
            name = f"{now:013d}-{os.getpid()}-{self._count}-{os.urandom(4).hex()}"
            self._count += 1
            aside = self.folder / f"{name}.part"
            descriptor = os.open(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                aside.rename(self.folder / f"{name}.jsonl")
            except FileNotFoundError:  # swept up by a recovery that came between
                os.close(descriptor)
                continue
            self._descriptor = descriptor
        self._size = 0
        self._check = 0
        self._day = now // DAY_MS


def _plain(value: object) -> object:
    """Encode arrays as lists, numpy's numbers as Python's, and what is neither by the name of its type."""
    return value.tolist() if hasattr(value, "tolist") else f"<{type(value).__name__}>"
