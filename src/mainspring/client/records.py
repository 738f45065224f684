"""The lines of a spool: one JSON array per thing logged, and the header that names the run.

A line is complete when it ends with a newline; a torn one was never acknowledged and is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from mainspring.core import Corrupt

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """What a spool is about: the run, and how to make it where it does not exist yet."""

    run_id: str
    experiment: str = ""
    """Name of the experiment; empty means the default one."""
    experiment_id: str = ""
    name: str = ""
    user: str = ""
    start_time: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    is_new: bool = True
    """The store does not know the run yet."""
    is_owner: bool = True
    """The process that wrote the spool started the run: if it dies, the run is over."""
    url: str = ""
    """Server the run belongs to; empty means the project's own store."""


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """One value; NaN and the infinities are text."""

    key: str
    value: float | str
    timestamp: int
    step: int


@dataclass(frozen=True, slots=True)
class ParamRecord:
    """One param."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class TagRecord:
    """One tag."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file for the run's artifacts: its copy beside the spool, and the path it gets."""

    copy: str
    path: str


@dataclass(frozen=True, slots=True)
class EndRecord:
    """The run ended."""

    status: str
    end_time: int


Record = MetricRecord | ParamRecord | TagRecord | FileRecord | EndRecord
_LETTERS: dict[str, type[Record]] = {
    "m": MetricRecord, "p": ParamRecord, "t": TagRecord, "f": FileRecord, "e": EndRecord
}  # fmt: skip
_NAMES = {type: letter for letter, type in _LETTERS.items()}


def encode_header(start: RunStart) -> bytes:
    """Return the first line of a spool."""
    return json.dumps({"format": FORMAT, **asdict(start), "tags": dict(start.tags)}).encode() + b"\n"


def decode_header(line: bytes) -> RunStart:
    """Read the first line of a spool; raise `Corrupt`."""
    try:
        document = json.loads(line)
        if document.pop("format") != FORMAT:
            raise Corrupt("The spool was written by another version.", hint="Send it with the version that wrote it.")
        return RunStart(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"The first line of the spool cannot be read: {line[:80]!r}.") from error


def encode_record(record: Record) -> bytes:
    """Return the line of a record."""
    values = [getattr(record, name) for name in record.__slots__]
    return json.dumps([_NAMES[type(record)], *values]).encode() + b"\n"


def decode_records(chunk: bytes) -> Iterator[tuple[Record, int]]:
    """Yield the records of complete lines, each with the offset after it; lines that are none are skipped."""
    offset = 0
    for line in chunk.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        offset += len(line)
        try:
            letter, *values = json.loads(line)
            yield _LETTERS[letter](*values), offset
        except (ValueError, KeyError, TypeError):
            continue
