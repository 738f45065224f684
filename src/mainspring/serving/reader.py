"""Read the prediction log of an endpoint, and its labels: sealed files and live segments as one.

A segment is listed before the manifest is read, and what the manifest names is read from the sealed file: so a record
is read once, whatever a sealing job does meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mainspring.core import Corrupt
from mainspring.serving.log import DAY_MS
from mainspring.serving.records import LabelRecord, PredictionRecord
from mainspring.serving.sealed import Manifest, SealedFile, read_manifest, verified_path
from mainspring.serving.segments import day_end, list_segments, opened_at, segment_order, whole_batches

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R", bound=PredictionRecord | LabelRecord)
LAG_MS = DAY_MS
"""A record can be appended this much later (on the endpoint's clock) than its request was received."""
BATCH = 8_192
"""Records per table; with it, memory is bounded whatever is read."""
_RECEIVED = b'"received_at":'


def read_records(folder: Path, start_ms: int, end_ms: int) -> Iterator[PredictionRecord]:
    """Yield the records received in ``[start_ms, end_ms)``, file by file.

    Files that cannot hold such a record are not opened, lines outside the interval are not decoded, and what follows
    the last whole batch of a segment (the process was killed while writing it) is ignored: it was never acknowledged.
    """
    yield from _read(folder, PredictionRecord, start_ms, end_ms)


def read_labels(folder: Path, *, start_ms: int = 0) -> Iterator[LabelRecord]:
    """Yield the labels, in the order they were received by each process.

    Files that were full before ``start_ms`` are not opened: a label cannot be older than its prediction.
    """
    yield from _read(folder, LabelRecord, start_ms - start_ms % DAY_MS, None)


def read_tables(
    folder: Path, start_ms: int, end_ms: int, *, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield what `read_records` yields as tables of at most `BATCH` records, the way sealed files keep them.

    ``columns`` limits them to some columns; of a sealed file only those are read.
    """
    # Late: Arrow is for those who read logs, not for the endpoint that writes them.
    from mainspring.serving.columnar import plain_schema, record_table

    manifest, segments = _sources(folder)
    for file in manifest.files:
        if file.start < end_ms and file.end > start_ms:
            yield from _sealed_tables(folder, file, start_ms, end_ms, columns)
    schema = plain_schema(columns) if columns else None
    for part in chunks(_live(folder, segments, PredictionRecord, start_ms, end_ms)):
        table = record_table(part, schema=schema)
        yield table.select([name for name in columns if name in table.schema.names]) if columns else table


def find_records(folder: Path, request_id: str) -> list[PredictionRecord]:
    """Return all records of one request: the answer and its shadows."""
    manifest, segments = _sources(folder)
    found = [record for file in manifest.files for record in _find_sealed(folder, file, request_id)]
    for path in segments:
        try:
            found += _find_live(path, request_id)
        except FileNotFoundError:
            file = read_manifest(folder).holding(path.name)
            found += _find_sealed(folder, file, request_id) if file and file not in manifest.files else []
    return found


def find_record(folder: Path, request_id: str) -> PredictionRecord | None:
    """Return the record of the answer a request got, or none."""
    return next((record for record in find_records(folder, request_id) if not record.shadow), None)


def first_record_at(folder: Path) -> int | None:
    """Return when the log's first segment was opened, ms since the epoch; None while there is none."""
    manifest, segments = _sources(folder)
    return min(
        [opened_at(Path(name)) for name in (*manifest.segments, *(path.name for path in segments))], default=None
    )


def newest_label(folder: Path) -> tuple[str, int]:
    """Return a stamp of a label log that changes whenever labels arrive: its newest segment and its size."""
    manifest = read_manifest(folder)
    names = [path.name for path in list_segments(folder)] + list(manifest.segments)
    newest = max(names, key=lambda name: segment_order(Path(name)), default=None)
    if newest is None:
        return ("", 0)
    try:
        return (newest, (folder / newest).stat().st_size)
    except FileNotFoundError:
        return (newest, -1)


def has_failures(folder: Path) -> bool:
    """Say whether the newest segment of a prediction log holds an answer with a status of 500 or more."""
    newest = max(list_segments(folder), key=segment_order, default=None)
    try:
        return newest is not None and b'"status":5' in newest.read_bytes()
    except FileNotFoundError:  # sealed this moment: it was not the one being written
        return False


def read_segment(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of one segment."""
    decoder = msgspec.json.Decoder(kind)
    for line in _lines(path):
        yield _decode(decoder, line, path)


def _read(folder: Path, kind: type[R], start_ms: int, end_ms: int | None) -> Iterator[R]:
    from mainspring.serving.columnar import records_of

    manifest, segments = _sources(folder)
    for file in manifest.files:
        if (end_ms is None or file.start < end_ms) and file.end > start_ms:
            for table in _sealed_tables(folder, file, start_ms, end_ms, None):
                yield from records_of(table, kind)
    yield from _live(folder, segments, kind, start_ms, end_ms)


def _sources(folder: Path) -> tuple[Manifest, list[Path]]:
    """Return what is sealed and the segments that are not; the order of the two looks matters."""
    segments = list_segments(folder)
    manifest = read_manifest(folder)
    sealed = manifest.segments
    return manifest, [path for path in segments if path.name not in sealed]


def _live(folder: Path, segments: Sequence[Path], kind: type[R], start_ms: int, end_ms: int | None) -> Iterator[R]:
    decoder = msgspec.json.Decoder(kind)
    for path in segments:
        if (end_ms is not None and opened_at(path) >= end_ms + LAG_MS) or day_end(path) <= start_ms:
            continue
        try:
            lines = _lines(path)
        except FileNotFoundError:  # sealed since it was listed
            yield from _sealed_since(folder, path, kind, start_ms, end_ms)
            continue
        for line in lines:
            if end_ms is None or start_ms <= _received_at(line) < end_ms:
                yield _decode(decoder, line, path)


def _sealed_since(folder: Path, path: Path, kind: type[R], start_ms: int, end_ms: int | None) -> Iterator[R]:
    """Yield the records of a segment from the file it was sealed into."""
    import pyarrow.compute as pc

    from mainspring.serving.columnar import SEGMENT, records_of

    file = read_manifest(folder).holding(path.name)
    if file is None:
        return
    for table in _sealed_tables(folder, file, start_ms, end_ms, None):
        yield from records_of(table.filter(pc.equal(table.column(SEGMENT), path.name)), kind)


def _sealed_tables(
    folder: Path, file: SealedFile, start_ms: int, end_ms: int | None, columns: Sequence[str] | None
) -> Iterator[pa.Table]:
    """Yield the records of a sealed file in an interval, row group by row group."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(verified_path(folder, file)) as opened:
        names = opened.schema_arrow.names
        wanted = [name for name in dict.fromkeys((*columns, "received_at")) if name in names] if columns else None
        for batch in opened.iter_batches(BATCH, columns=wanted):
            received = batch.column("received_at")
            inside = pc.greater_equal(received, start_ms)
            if end_ms is not None:
                inside = pc.and_(inside, pc.less(received, end_ms))
            table = pa.Table.from_batches([batch]).filter(inside)
            if table.num_rows:
                yield table.select([name for name in columns if name in names]) if columns else table


def _find_sealed(folder: Path, file: SealedFile, request_id: str) -> list[PredictionRecord]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from mainspring.serving.columnar import records_of

    found: list[PredictionRecord] = []
    with pq.ParquetFile(verified_path(folder, file)) as opened:
        for group in range(opened.num_row_groups):
            mask = pc.equal(opened.read_row_group(group, columns=["id"]).column("id"), request_id)
            if pc.any(mask).as_py():
                found += records_of(opened.read_row_group(group).filter(mask), PredictionRecord)
    return found


def _find_live(path: Path, request_id: str) -> list[PredictionRecord]:
    decoder = msgspec.json.Decoder(PredictionRecord)
    mark = b'{"id":' + msgspec.json.encode(request_id) + b","
    data = path.read_bytes()
    if mark not in data:
        return []
    return [
        _decode(decoder, line, path)
        for batch in whole_batches(data, path)
        for line in bytes(batch).splitlines()
        if line.startswith(mark)
    ]


def _lines(path: Path) -> list[bytes]:
    return [line for batch in whole_batches(path.read_bytes(), path) for line in bytes(batch).splitlines()]


def chunks(records: Iterator[R]) -> Iterator[list[R]]:
    """Yield records in lists of at most `BATCH`."""
    while part := list(islice(records, BATCH)):
        yield part


def _received_at(line: bytes) -> int:
    start = line.index(_RECEIVED) + len(_RECEIVED)
    return int(line[start : line.index(b",", start)])


def _decode(decoder: msgspec.json.Decoder[R], line: bytes, path: Path) -> R:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corrupt(f"A record in {path} cannot be read: {error}.") from error
