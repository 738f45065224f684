"""Prediction logs for other tools: JSON lines or one Parquet file, from segments and sealed files alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mainspring.core import InvalidInput, NotFound
from mainspring.serving.reader import read_records
from mainspring.serving.records import PredictionRecord
from mainspring.serving.sealed import MANIFEST

EVER_MS = 2**62
_NAMES = {"id": "request_id", "version": "model_version"}
"""What fields are called outside, where they stand alone."""
_PART = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records of which logs."""

    folders: Sequence[Path]
    endpoint: str = ""
    """Only this endpoint's; empty for all."""
    start_ms: int = 0
    end_ms: int = EVER_MS

    def records(self) -> Iterator[PredictionRecord]:
        """Yield the records, log by log."""
        for folder in self.folders:
            for record in read_records(folder, self.start_ms, self.end_ms):
                if not self.endpoint or record.endpoint == self.endpoint:
                    yield record


def find_logs(folder: Path) -> list[Path]:
    """Return the prediction logs in a folder: of an endpoint, of several, of a project's home, or a bare log."""
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", hint="Pass the DIR of: mainspring serve --log DIR")
    for pattern in ("predictions", "*/predictions", "endpoints/*/predictions"):
        found = sorted(path for path in folder.glob(pattern) if path.is_dir())
        if found:
            return found
    if any(folder.glob("*.jsonl")) or (folder / MANIFEST).exists():
        return [folder]
    raise NotFound(f"There is no prediction log in {folder}.", hint="Pass the DIR of: mainspring serve --log DIR")


def export_lines(selection: Selection) -> Iterator[bytes]:
    """Yield one line of JSON per record, newline included."""
    encode = msgspec.json.Encoder().encode
    for record in selection.records():
        yield encode(exported(record)) + b"\n"


def exported(record: PredictionRecord) -> dict[str, object]:
    """Return a record as it is exported: all its fields, the request's id and the model's version by those names."""
    return {_NAMES.get(name, name): getattr(record, name) for name in record.__struct_fields__}


def export_parquet(selection: Selection, target: Path) -> int:
    """Write the records to one Parquet file and return how many there were; nothing is kept in memory but a part."""
    # Late: Arrow is for those who read logs.
    import pyarrow.parquet as pq

    from mainspring.serving.columnar import Kinds, record_table

    kinds = Kinds()
    for part in _parts(selection.records()):
        kinds.see(part)
    schema = kinds.schema(PredictionRecord)
    renamed = [_NAMES.get(name, name) for name in schema.names]
    count = 0
    aside = target.with_name(f"{target.name}.part")
    try:
        with pq.ParquetWriter(aside, record_table([], schema=schema).rename_columns(renamed).schema) as writer:
            for part in _parts(selection.records()):
                writer.write_table(record_table(part, schema=schema).rename_columns(renamed))
                count += len(part)
        aside.replace(target)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror or error}.", hint="Check --output.") from error
    finally:
        aside.unlink(missing_ok=True)
    return count


def _parts(records: Iterator[PredictionRecord]) -> Iterator[list[PredictionRecord]]:
    part: list[PredictionRecord] = []
    for record in records:
        part.append(record)
        if len(part) == _PART:
            yield part
            part = []
    if part:
        yield part
