"""Clean up after processes that were killed: torn ends of segments, and segments that were never begun."""

from __future__ import annotations

import os
from pathlib import Path

from mainspring.serving.log import CHECK_MARK
from mainspring.serving.segments import held, list_segments, whole_size


def recover(folder: Path) -> int:
    """Cut the torn ends off the segments nobody writes to any more and return how many bytes that were.

    What is cut was never acknowledged. Segments of processes that are alive are left alone.
    """
    cut = sum(_cut_torn_end(path) for path in list_segments(folder))
    for path in folder.glob("*.part"):
        _sweep(path)
    return cut


def _cut_torn_end(path: Path) -> int:
    with held(path) as is_finished:
        if not is_finished:
            return 0
        if _ends_well(path):
            return 0
        data = path.read_bytes()
        whole = whole_size(data)
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
        return len(data) - whole


def _ends_well(path: Path) -> bool:
    """Say whether a segment is empty or its last line is a check line, without reading all of it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 256))
        tail = file.read()
    return size == 0 or (tail.endswith(b"\n") and b"\n" + CHECK_MARK in tail[tail.rfind(b"\n", 0, -1) :])


def _sweep(path: Path) -> None:
    """Remove a segment that never got its name; it is empty."""
    with held(path) as is_finished:
        if is_finished and path.stat().st_size == 0:
            path.unlink(missing_ok=True)
