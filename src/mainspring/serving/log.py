"""Append-only segments of JSON lines: what was acknowledged is in them, whenever the process dies.

One process writes one segment at a time, ``<start ms>-<pid>-<n>.jsonl``. A batch of lines is one `os.write`; a
segment ends after 8 MiB or when the clock's UTC day changes, so that readers can skip by name. Only the last line of
a segment can be torn (by a kill in the middle of a write), and nothing is ever appended after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from mainspring.core import Clock, Unavailable

DAY_MS = 86_400_000
SEGMENT_BYTES = 8 << 20


class SegmentLog:
    """Writes records to the segments of one folder."""

    def __init__(self, folder: Path, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.written = 0
        """Bytes appended by this process."""
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._encode = msgspec.json.Encoder().encode_lines
        self._descriptor = -1
        self._size = 0
        self._day = -1
        self._count = 0

    def append(self, records: Iterable[msgspec.Struct]) -> None:
        """Append a batch in one write; raise `Unavailable` (and leave no partial line) if the disk refuses it."""
        data = self._encode(list(records))
        try:
            self._rotate_if_due()
            written = os.write(self._descriptor, data)
            if written != len(data):
                os.ftruncate(self._descriptor, self._size)
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError as error:
            raise Unavailable(
                f"The log in {self.folder.name} cannot be written: {error}.", hint="Free disk space; nothing is lost."
            ) from error
        self._size += written
        self.written += written

    def close(self) -> None:
        """Close the current segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rotate_if_due(self) -> None:
        now = self._clock.now_ms()
        if self._descriptor < 0 or now // DAY_MS != self._day or self._size >= self._segment_bytes:
            self.close()
            self._open(now)

    def _open(self, now: int) -> None:
        while self._descriptor < 0:
            path = self.folder / f"{now:013d}-{os.getpid()}-{self._count}.jsonl"
            self._count += 1
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
        self._size = 0
        self._day = now // DAY_MS
