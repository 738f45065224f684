"""Tables in files, read and written a part at a time: CSV, Parquet and JSON lines, told apart by their names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core import InvalidInput

PART = 4_096
"""Rows held in memory at once."""


def read_rows(path: Path, *, part: int = PART, texts: Collection[str] = ()) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a file in parts; raise `InvalidInput` for what is not the kind of file its name says.

    ``texts`` are columns that stay texts whatever they look like in a CSV: "007" is no number.
    """
    kind = kind_of(path)
    # Late: Arrow is for those who read files.
    import pyarrow as pa

    try:
        if kind == "jsonl":
            yield from _read_lines(path, part)
        elif kind == "parquet":
            yield from _read_parquet(path, part)
        else:
            yield from _read_csv(path, part, texts)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InvalidInput(f"{path} cannot be read as {kind}: {reason}", hint="Check the file.") from error


def count_rows(path: Path) -> int | None:
    """Return how many rows a file has where its format says so; None where one would have to read it."""
    if kind_of(path) != "parquet":
        return None
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        rows: int = file.metadata.num_rows
        return rows


def kind_of(path: Path) -> str:
    """Return ``csv``, ``parquet`` or ``jsonl``."""
    kinds = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise InvalidInput(
            f"{path.name} is neither CSV, Parquet nor JSON lines.", hint="Name it .csv, .parquet or .jsonl."
        )
    return kind


def _read_lines(path: Path, part: int) -> Iterator[list[dict[str, Any]]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                rows.append(decoder.decode(line))
            except msgspec.MsgspecError as error:
                raise InvalidInput(
                    f"{path} line {number} is no JSON object: {error}.", hint="Check the file."
                ) from error
            if len(rows) == part:
                yield rows
                rows = []
    if rows:
        yield rows


def _read_parquet(path: Path, part: int) -> Iterator[list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(part):
            yield batch.to_pylist()


def _read_csv(path: Path, part: int, texts: Collection[str]) -> Iterator[list[dict[str, Any]]]:
    import pyarrow as pa
    from pyarrow import csv

    convert = csv.ConvertOptions(
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        column_types={name: pa.string() for name in texts},
    )
    rows: list[dict[str, Any]] = []
    with csv.open_csv(path, convert_options=convert) as reader:
        for batch in reader:
            rows += batch.to_pylist()
            whole = len(rows) - len(rows) % part
            for start in range(0, whole, part):
                yield rows[start : start + part]
            del rows[:whole]
    if rows:
        yield rows


def write_rows(target: Path, kind: str, parts: Sequence[Path], *, optional: str = "") -> None:
    """Put files of JSON lines together into one of any kind; the column ``optional`` is left out if it is empty."""
    has_optional = not optional or any(f'"{optional}":"'.encode() in path.read_bytes() for path in parts)
    dropped = "" if has_optional else optional
    if kind == "jsonl":
        with target.open("wb") as file:
            for path in parts:
                for row in _rows_of(path, dropped):
                    file.write(msgspec.json.encode(row) + b"\n")
        return
    _write_table(target, kind, parts, dropped)


def _write_table(target: Path, kind: str, parts: Sequence[Path], dropped: str) -> None:
    """Write Parquet or CSV; the types of all parts are looked at first, so that they fit all of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    nested = kind == "csv"
    try:
        schemas = [pa.Table.from_pylist(_flat(_rows_of(path, dropped), nested)).schema for path in parts]
        schema = pa.unify_schemas(schemas, promote_options="permissive") if schemas else pa.schema([])
    except (pa.ArrowTypeError, pa.ArrowInvalid, OverflowError) as error:
        raise InvalidInput(
            f"The columns have no common type: {error}.", hint="Write JSON lines: OUTPUT.jsonl"
        ) from error
    writer = csv.CSVWriter(target, schema) if nested else pq.ParquetWriter(target, schema, compression="zstd")
    with writer:
        for path in parts:
            writer.write_table(pa.Table.from_pylist(_flat(_rows_of(path, dropped), nested), schema=schema))


def _rows_of(path: Path, dropped: str) -> list[dict[str, Any]]:
    rows = msgspec.json.Decoder(dict[str, Any]).decode_lines(path.read_bytes())
    for row in rows:
        row.pop(dropped, None)
    return rows


def _flat(rows: list[dict[str, Any]], nested: bool) -> list[dict[str, Any]]:
    """Return rows whose lists and objects are JSON texts, for formats that have none."""
    if not nested:
        return rows
    return [
        {
            name: msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value
            for name, value in row.items()
        }
        for row in rows
    ]
