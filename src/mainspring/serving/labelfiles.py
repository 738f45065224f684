"""Label files: CSV, Parquet or JSON lines, each row an entry like those of the labels route."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mainspring.core import InvalidInput, NotFound, to_ms
from mainspring.serving.labels import read_label_entries
from mainspring.serving.records import LabelRecord
from mainspring.serving.rowfiles import read_rows

_FIELDS = ("label", "time", "id", "at")


def read_label_file(path: Path, received_at: int, *, key: str = "") -> Iterator[LabelRecord]:
    """Yield the labels of a file, checked before the first one is given away.

    Columns: ``label``, ``time`` (when it became known) and ``id``; or, with ``key``, the named column and ``at``.
    Times are milliseconds since the epoch, or ISO 8601. Other columns are ignored.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}.", hint="Pass a CSV, Parquet or JSON lines file.")
    entries = [_entry(row, key) for part in read_rows(path) for row in part]
    if not entries:
        raise InvalidInput(f"{path} holds no labels.", hint="It needs the columns id, label and time.")
    yield from read_label_entries(entries, received_at)


def _entry(row: dict[str, object], key: str) -> dict[str, object]:
    """Return a row as an entry; what is missing or wrong is said by the reader of entries."""
    entry = {name: row[name] for name in _FIELDS if row.get(name) is not None}
    if key:
        entry.pop("id", None)
        if row.get(key) is not None:
            entry["key"] = {key: row[key]}
    for name in ("time", "at"):
        if name in entry:
            entry[name] = _time(entry[name])
    if isinstance(entry.get("label"), bool):
        entry["label"] = int(bool(entry["label"]))
    return entry


def _time(value: object) -> object:
    """Return a time as milliseconds, if it is one."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:20])
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, datetime):
        return to_ms(value if value.tzinfo else value.replace(tzinfo=UTC))
    return value
