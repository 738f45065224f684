"""The parts of a snapshot: Parquet blobs, written so that equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import InvalidInput

if TYPE_CHECKING:
    import polars as pl


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column's name and its polars type, as polars writes it."""

    name: str
    type: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file of a snapshot; its time range is inclusive, in milliseconds since the epoch."""

    digest: str
    rows: int
    bytes: int
    time_from: int | None
    time_to: int | None


def describe_columns(frame: pl.DataFrame) -> list[Column]:
    """Return the names and types of a frame's columns."""
    return [Column(name=name, type=str(dtype)) for name, dtype in frame.schema.items()]


def write_part(blobs: LocalBlobs, frame: pl.DataFrame, time_column: str | None) -> Part:
    """Store a frame as one Parquet blob: zstd, with pages cut by content so that similar parts share bytes."""
    import pyarrow as pa  # heavy: whoever only lists snapshots should not pay for it
    import pyarrow.parquet as pq

    _check_frame(frame)
    time_from, time_to = _time_range(frame, time_column)
    sink = pa.BufferOutputStream()
    table = frame.rechunk().to_arrow().combine_chunks()
    pq.write_table(table, sink, compression="zstd", use_content_defined_chunking=True)
    data = sink.getvalue().to_pybytes()
    return Part(digest=blobs.put(data), rows=frame.height, bytes=len(data), time_from=time_from, time_to=time_to)


def scan_parts(blobs: LocalBlobs, parts: Sequence[Part]) -> pl.LazyFrame:
    """Return the rows of the parts, one after the other, after verifying their bytes."""
    import polars as pl  # heavy, see write_part

    frames = [pl.scan_parquet(blobs.path(part.digest)) for part in parts]
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")


def check_readable_together(blobs: LocalBlobs, part: Part, frame: pl.DataFrame) -> None:
    """Refuse a frame that has a column whose type has nothing in common with that of the part."""
    import polars as pl  # heavy, see write_part

    schema = scan_parts(blobs, [part]).collect_schema()
    for name in frame.columns:
        if name not in schema:
            continue
        try:
            pl.concat([pl.DataFrame(schema={name: schema[name]}), frame.select(name).clear()], how="diagonal_relaxed")
        except pl.exceptions.PolarsError as error:
            raise InvalidInput(
                f"Column {name!r} is {frame.schema[name]}, but {schema[name]} in the parent: "
                "the two cannot be read together.",
                hint="Convert the column, or start the dataset anew without a parent.",
            ) from error


def _check_frame(frame: pl.DataFrame) -> None:
    if frame.height == 0 or frame.width == 0:
        raise InvalidInput(f"A snapshot's part needs rows and columns, this one has the shape {frame.shape}.")
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    if nested:
        raise InvalidInput(f"Columns {', '.join(nested)} are nested.", hint="Datasets are flat tables: unnest them.")


def _time_range(frame: pl.DataFrame, time_column: str | None) -> tuple[int | None, int | None]:
    if time_column is None:
        return None, None
    if time_column not in frame.columns:
        raise InvalidInput(f"The time column {time_column!r} is not in the data.")
    times = frame[time_column]
    if times.dtype.is_temporal() and not times.dtype.is_integer():
        times = times.dt.timestamp("ms")
    if not times.dtype.is_integer():
        raise InvalidInput(f"The time column {time_column!r} is {times.dtype}.", hint="Use milliseconds or a datetime.")
    return _whole(times.min()), _whole(times.max())


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
