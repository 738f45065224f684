"""From the records of a spool to the calls that send them: as many as fit into one batch, in the order logged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mainspring.client.records import EndRecord, FileRecord, MetricRecord, ParamRecord, Record, TagRecord

MAX_ENTITIES, MAX_PARAMS, MAX_TAGS = 1000, 100, 100
MAX_BYTES = 800_000
"""Of keys and values; the protocol allows a body of 1,000,000 bytes."""
_METRIC_OVERHEAD, _PAIR_OVERHEAD = 90, 30


@dataclass(slots=True)
class Batch:
    """Metrics, params and tags of one log-batch call."""

    metrics: list[MetricRecord] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    size: int = 0

    def __len__(self) -> int:
        """Return how many things it holds."""
        return len(self.metrics) + len(self.params) + len(self.tags)

    def accepts(self, record: Record) -> bool:
        """Say whether the record still fits; files and the end of the run never do."""
        if isinstance(record, (FileRecord, EndRecord)):
            return False
        if len(self) >= MAX_ENTITIES or self.size + _size(record) > MAX_BYTES:
            return not len(self)
        if isinstance(record, ParamRecord):
            return len(self.params) < MAX_PARAMS and self.params.get(record.key, record.value) == record.value
        return not isinstance(record, TagRecord) or len(self.tags) < MAX_TAGS

    def add(self, record: MetricRecord | ParamRecord | TagRecord) -> None:
        """Take a record in; of two values of a tag the later one stays."""
        self.size += _size(record)
        if isinstance(record, MetricRecord):
            self.metrics.append(record)
        elif isinstance(record, ParamRecord):
            self.params[record.key] = record.value
        else:
            self.tags[record.key] = record.value

    def halves(self) -> tuple[Batch, Batch]:
        """Split into two, to find out what a server refuses."""
        records: list[MetricRecord | ParamRecord | TagRecord] = [
            *(ParamRecord(key, value) for key, value in self.params.items()),
            *(TagRecord(key, value) for key, value in self.tags.items()),
            *self.metrics,
        ]
        first, second = Batch(), Batch()
        for position, record in enumerate(records):
            (first if position < len(records) // 2 else second).add(record)
        return first, second


@dataclass(frozen=True, slots=True)
class Call:
    """One call and the offset in the spool that it completes."""

    what: Batch | FileRecord | EndRecord
    offset: int


def plan_calls(records: Iterable[tuple[Record, int]]) -> Iterator[Call]:
    """Group records into calls; files and the end of the run are calls of their own."""
    batch, reached = Batch(), 0
    for record, offset in records:
        if len(batch) and not batch.accepts(record):
            yield Call(batch, reached)
            batch = Batch()
        if isinstance(record, (FileRecord, EndRecord)):
            yield Call(record, offset)
        else:
            batch.add(record)
        reached = offset
    if len(batch):
        yield Call(batch, reached)


def _size(record: MetricRecord | ParamRecord | TagRecord) -> int:
    """Estimate the bytes of a record in the request: text may be escaped to six bytes per character."""
    if isinstance(record, MetricRecord):
        return _METRIC_OVERHEAD + len(record.key) * (1 if record.key.isascii() else 6)
    width = 1 if record.value.isascii() and record.value.isprintable() else 6
    return _PAIR_OVERHEAD + width * (len(record.value) + len(record.key))
