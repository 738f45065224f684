"""The prediction log as one table: a row per predicted row and variant, with its label once that is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from mainspring.core import InvalidInput
from mainspring.serving import LabelRecord, PredictionRecord

INPUT_PREFIX = "input."
"""Features are columns of this prefix, so that a feature may have any name."""
_RECORD_COLUMNS = {
    "request_id": pl.String,
    "received_at": pl.Int64,
    "variant": pl.String,
    "version": pl.String,
    "shadow": pl.Boolean,
}
_LABEL_COLUMNS = {"prediction_id": pl.String, "label": pl.Float64, "label_time": pl.Int64, "labelled_at": pl.Int64}


def prediction_frame(records: Iterable[PredictionRecord], labels: Iterable[LabelRecord] = ()) -> pl.DataFrame:
    """Lay out the successful predictions in the order of their requests.

    Columns: ``prediction_id``, ``request_id``, ``row``, ``received_at``, ``variant``, ``version``, ``shadow``,
    ``score``, ``label``, ``label_time`` (when it became true), ``labelled_at`` (when it arrived), and ``input.NAME``
    for every feature, which only the answered row has; rows of shadows hold null there. The latest label wins; of a
    request that was sent twice under one id, the first prediction of each variant counts.
    """
    predicted = [record for record in records if record.status == 200 and record.outputs is not None]
    answered = [record for record in predicted if not record.shadow]
    shadows = [record for record in predicted if record.shadow]
    frame = pl.concat([_rows_of(answered).hstack(_inputs_of(answered)), _rows_of(shadows)], how="diagonal")
    ordered = frame.sort("received_at", "request_id", "row", maintain_order=True).unique(
        ["prediction_id", "variant"], keep="first", maintain_order=True
    )
    return ordered.join(label_frame(labels), on="prediction_id", how="left", maintain_order="left")


def label_frame(labels: Iterable[LabelRecord]) -> pl.DataFrame:
    """Lay out labels, one row per prediction id: the one that arrived last."""
    known = list(labels)
    columns = (
        [label.id for label in known],
        [label.label for label in known],
        [label.time for label in known],
        [label.received_at for label in known],
    )
    frame = pl.DataFrame(dict(zip(_LABEL_COLUMNS, columns, strict=True)), schema=_LABEL_COLUMNS)
    return frame.sort("labelled_at", maintain_order=True).unique("prediction_id", keep="last")


def answered_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep what clients were answered: no shadows."""
    return frame.filter(~pl.col("shadow"))


def labelled_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep the rows a binary target can be judged on: label 0 or 1, score between 0 and 1.

    Labels come from clients: one that is neither must not stop the monitor.
    """
    return frame.filter(pl.col("label").is_in([0.0, 1.0]) & pl.col("score").is_between(0.0, 1.0))


def feature_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the features of the answered rows, under their own names."""
    names = [name for name in frame.columns if name.startswith(INPUT_PREFIX)]
    return answered_rows(frame).select(pl.col(name).alias(name.removeprefix(INPUT_PREFIX)) for name in names)


def _rows_of(records: Sequence[PredictionRecord]) -> pl.DataFrame:
    columns = (
        [record.id for record in records],
        [record.received_at for record in records],
        [record.variant for record in records],
        [record.version for record in records],
        [record.shadow for record in records],
    )
    heads = pl.DataFrame(dict(zip(_RECORD_COLUMNS, columns, strict=True)), schema=_RECORD_COLUMNS)
    sizes = np.array([len(record.outputs or ()) for record in records], dtype=np.int64)
    index = np.repeat(np.arange(len(records)), sizes)
    row = np.arange(index.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    scores = [output for record in records for output in record.outputs or ()]
    return heads[index].with_columns(
        pl.Series("row", row, dtype=pl.Int64),
        _scores(scores),
        prediction_id=pl.concat_str("request_id", pl.lit(":"), pl.Series(row).cast(pl.String)),
    )


def _scores(values: Sequence[object]) -> pl.Series:
    try:
        return pl.Series("score", values, dtype=pl.Float64)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(
            "The prediction log holds outputs that are not single numbers.", hint="Monitor models that return one."
        ) from error


def _inputs_of(records: Sequence[PredictionRecord]) -> pl.DataFrame:
    names = dict.fromkeys(name for record in records for name in record.inputs or {})
    return pl.DataFrame([_input_series(name, records) for name in names])


def _input_series(name: str, records: Sequence[PredictionRecord]) -> pl.Series:
    values: list[object] = []
    for record in records:
        count = len(record.outputs or ())
        given = (record.inputs or {}).get(name)
        values.extend(given if given is not None and len(given) == count else [None] * count)
    return pl.Series(INPUT_PREFIX + name, values, strict=False)
