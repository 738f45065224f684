"""Read the segments of an endpoint's prediction log and of its labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from mainspring.core import Corrupt
from mainspring.serving.log import DAY_MS
from mainspring.serving.records import LabelRecord, PredictionRecord

T = TypeVar("T")
LAG_MS = DAY_MS
"""A record can be appended this much later (on the endpoint's clock) than its request was received."""
_RECEIVED = b'"received_at":'


def read_records(folder: Path, start_ms: int, end_ms: int) -> Iterator[PredictionRecord]:
    """Yield the records received in ``[start_ms, end_ms)``, segment by segment.

    Segments that cannot hold such a record are not opened, lines outside the interval are not decoded, and a last
    line without newline (the process was killed while writing it) is ignored: it was never acknowledged.
    """
    decoder = msgspec.json.Decoder(PredictionRecord)
    for path in _segments(folder):
        if _opened_at(path) >= end_ms + LAG_MS or _day_end(path) <= start_ms:
            continue
        for line in _lines(path):
            if start_ms <= _received_at(line) < end_ms:
                yield _decode(decoder, line, path)


def find_records(folder: Path, request_id: str) -> list[PredictionRecord]:
    """Return all records of one request: the answer and its shadows."""
    decoder = msgspec.json.Decoder(PredictionRecord)
    mark = b'{"id":' + msgspec.json.encode(request_id) + b","
    found = []
    for path in _segments(folder):
        data = path.read_bytes()
        start = data.find(mark)
        while start >= 0:
            end = data.find(b"\n", start)
            if end < 0:
                break
            if start == 0 or data[start - 1] == ord("\n"):
                found.append(_decode(decoder, data[start:end], path))
            start = data.find(mark, end)
    return found


def find_record(folder: Path, request_id: str) -> PredictionRecord | None:
    """Return the record of the answer a request got, or none."""
    return next((record for record in find_records(folder, request_id) if not record.shadow), None)


def first_record_at(folder: Path) -> int | None:
    """Return when the log's first segment was opened, ms since the epoch; None while there is none."""
    first = next(iter(_segments(folder)), None)
    return None if first is None else _opened_at(first)


def read_labels(folder: Path, *, start_ms: int = 0) -> Iterator[LabelRecord]:
    """Yield the labels, in the order they were received by each process.

    Segments that were full before ``start_ms`` are not opened: a label cannot be older than its prediction.
    """
    decoder = msgspec.json.Decoder(LabelRecord)
    for path in _segments(folder):
        if _day_end(path) <= start_ms:
            continue
        for line in _lines(path):
            yield _decode(decoder, line, path)


def newest_label(folder: Path) -> tuple[str, int]:
    """Return the newest segment of a label log and its size: it changes whenever labels arrive."""
    newest = max(_segments(folder), key=_order, default=None)
    return ("", 0) if newest is None else (newest.name, newest.stat().st_size)


def has_failures(folder: Path) -> bool:
    """Say whether the newest segment of a prediction log holds an answer with a status of 500 or more."""
    newest = max(_segments(folder), key=_order, default=None)
    return newest is not None and b'"status":5' in newest.read_bytes()


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"), key=_order)


def _opened_at(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _day_end(path: Path) -> int:
    """Return the end of the UTC day a segment belongs to; it holds nothing received later."""
    return (_opened_at(path) // DAY_MS + 1) * DAY_MS


def _order(path: Path) -> tuple[int, int, int]:
    start, pid, count = path.stem.split("-")
    return int(start), int(pid), int(count)


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1].splitlines()


def _received_at(line: bytes) -> int:
    start = line.index(_RECEIVED) + len(_RECEIVED)
    return int(line[start : line.index(b",", start)])


def _decode(decoder: msgspec.json.Decoder[T], line: bytes, path: Path) -> T:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corrupt(f"A record in {path} cannot be read: {error}.") from error
