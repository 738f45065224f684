"""The prediction log of one endpoint process, with what its operator decided: privacy, sampling, a full disk."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

import msgspec

from mainspring.core import Clock, InvalidInput, Unavailable
from mainspring.serving.log import SegmentLog
from mainspring.serving.records import LabelRecord, PredictionRecord
from mainspring.serving.recovery import recover
from mainspring.serving.redaction import make_redaction, project_key


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """What is written down, and what happens when it cannot be."""

    redact: tuple[str, ...] = ()
    """Columns that are left out."""
    hashed: tuple[str, ...] = ()
    """Columns whose values are replaced by keyed hashes."""
    sample: float = 1.0
    """Share of the requests that is logged; failures are logged always."""
    on_full: Literal["refuse", "drop"] = "refuse"
    """A full disk refuses requests (503), or loses their records, counted."""


class PredictionLog:
    """Writes prediction records; one `append` is one write."""

    def __init__(self, folder: Path, clock: Clock, policy: LogPolicy = LogPolicy()) -> None:
        if not 0 < policy.sample <= 1:
            raise InvalidInput(f"A sample of {policy.sample} is no share.", hint="Use more than 0, up to 1.")
        self.dropped = 0
        """Records the disk had no room for."""
        self.sampled_out = 0
        """Records that were not to be logged."""
        self.is_dropping = False
        """Whether the last records were lost."""
        self.observer: Callable[[Sequence[PredictionRecord], float], None] | None = None
        """Told of every batch that was answered, and of the seconds its log took; telemetry listens here."""
        self.recovered = recover(folder) + recover(folder.parent / "labels")
        """Bytes of torn ends that processes before left, cut off now."""
        self._log = SegmentLog(folder, clock)
        self._policy = policy
        hides = bool(policy.redact or policy.hashed)
        self._redact = make_redaction(policy.redact, policy.hashed, project_key(folder.parent) if hides else b"")

    @property
    def written(self) -> int:
        """Bytes appended by this process."""
        return self._log.written

    def append(self, records: Sequence[PredictionRecord]) -> None:
        """Append a batch in one write; a full disk raises `Unavailable` or, by policy, is counted."""
        kept = records if self._policy.sample >= 1 else self._choose(records)
        if self._redact is not None:
            kept = [self._redact(record) for record in kept]
        started = perf_counter()
        try:
            self._log.append(kept)
        except Unavailable:
            if self._policy.on_full == "refuse":
                raise
            self.dropped += len(kept)
            self.is_dropping = True
        else:
            self.is_dropping = False
        if self.observer is not None:
            self.observer(records, perf_counter() - started)

    def clean_labels(self, labels: Sequence[LabelRecord]) -> Sequence[LabelRecord]:
        """Return labels as they may be written: personal keys are hashed as they are in the predictions."""
        return labels if self._redact is None else [self._redact.clean_label(label) for label in labels]

    def close(self) -> None:
        """End the current segment."""
        self._log.close()

    def _choose(self, records: Sequence[PredictionRecord]) -> list[PredictionRecord]:
        """Keep every failure and the share of the rest that was asked for; a request with its shadows or not at all."""
        share = self._policy.sample
        kept = [
            record if record.status >= 400 else msgspec.structs.replace(record, sample=share)
            for record in records
            if record.status >= 400 or zlib.crc32(record.id.encode()) < share * 2**32
        ]
        self.sampled_out += len(records) - len(kept)
        return kept
