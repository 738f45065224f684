"""Labels against the predictions they are for: how many have one, how many name a prediction nobody logged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa

from mainspring.monitoring.frames import table_frame
from mainspring.monitoring.truth import frame_labels
from mainspring.serving import LabelRecord, read_tables
from mainspring.serving.columnar import record_table

_EVER = 2**62


class LabelCount(msgspec.Struct, frozen=True, kw_only=True):
    """What became of some labels; ``repeated`` ones were followed by a later one for the same prediction."""

    labels: int
    matched: int
    unknown: int
    repeated: int


def count_labels(predictions: Path, labels: Iterable[LabelRecord]) -> LabelCount:
    """Look labels up in a prediction log, read table by table."""
    known = list(labels)
    truth = frame_labels(known)
    keys = truth.key_columns
    frames = [table_frame(record_table([]))]
    for table in read_tables(predictions, 0, _EVER):
        frame = _answered(table, keys)
        wanted = pl.col("prediction_id").is_in(truth.by_id["prediction_id"].implode())
        frames.append(frame if keys else frame.filter(wanted))
    rows = pl.concat(frames, how="diagonal_relaxed")
    matched = truth.by_id.join(rows, on="prediction_id", how="semi").height
    unmatched = truth.count_unmatched(rows)
    repeated = sum(label.id != "" for label in known) - truth.by_id.height
    return LabelCount(
        labels=len(known),
        matched=matched + truth.by_key.height - unmatched,
        unknown=truth.by_id.height - matched + unmatched,
        repeated=repeated,
    )


def _answered(table: pa.Table, keys: list[str]) -> pl.DataFrame:
    return table_frame(table, keys).filter(~pl.col("shadow"))
