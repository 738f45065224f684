"""The segments of a log folder: in order, whole batches only, each checked against its check line."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mainspring.core import Corrupt
from mainspring.serving.log import CHECK_MARK, DAY_MS


class Check(msgspec.Struct, frozen=True):
    """The line that ends a batch."""

    check: int
    """CRC-32 of the lines of all batches of the segment so far."""
    records: int


_CHECK = msgspec.json.Decoder(Check)
_NEWLINE_CHECK = b"\n" + CHECK_MARK


def list_segments(folder: Path) -> list[Path]:
    """Return the segments of a folder, oldest first."""
    return sorted(folder.glob("*.jsonl"), key=segment_order)


def segment_order(path: Path) -> tuple[int, int, int]:
    """Return what segments are sorted by: when they were opened, by which process, as its how manyth."""
    start, pid, count = path.stem.split("-")[:3]
    return int(start), int(pid), int(count)


def opened_at(path: Path) -> int:
    """Return when a segment was opened, ms since the epoch."""
    return int(path.name.partition("-")[0])


def day_end(path: Path) -> int:
    """Return the end of the UTC day a segment belongs to; it holds nothing received later."""
    return (opened_at(path) // DAY_MS + 1) * DAY_MS


def whole_batches(data: bytes, path: Path) -> Iterator[memoryview]:
    """Yield the lines of each batch that was written to its end; raise `Corrupt` where a check line does not fit.

    What comes after the last check line was torn by a kill, or is being written now: it was never acknowledged.
    """
    view = memoryview(data)
    start = check = 0
    while True:
        mark = data.find(_NEWLINE_CHECK, start)
        end = data.find(b"\n", mark + 1) if mark >= 0 else -1
        if end < 0:
            return
        lines = view[start : mark + 1]
        check = zlib.crc32(lines, check)
        if check != _read_check(data[mark + 1 : end], path).check:
            raise Corrupt(
                f"The segment {path} was changed after it was written (before byte {end}).",
                hint="Restore it from a backup; what is in it cannot be trusted.",
            )
        yield lines
        start = end + 1


def whole_size(data: bytes) -> int:
    """Return how many bytes of a segment its whole batches take."""
    mark = data.rfind(_NEWLINE_CHECK)
    while mark >= 0:
        end = data.find(b"\n", mark + 1)
        if end >= 0:
            return end + 1
        mark = data.rfind(_NEWLINE_CHECK, 0, mark)
    return 0


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock of a segment nobody appends to any more; say False if somebody does, or if it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _read_check(line: bytes, path: Path) -> Check:
    try:
        return _CHECK.decode(line)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"A check line of {path} cannot be read: {error}.") from error
