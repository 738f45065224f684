"""The prediction log as one table: a row per predicted row and variant, with its label once that is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mainspring.core import InvalidInput
from mainspring.monitoring.truth import LabelFrames, frame_labels
from mainspring.serving import LabelRecord, PredictionRecord
from mainspring.serving.columnar import INPUT_PREFIX, is_json, read_json_lists, record_table

HEAD = ("id", "received_at", "variant", "version", "shadow")
"""The columns of a record that each of its rows repeats."""
KEY_COLUMNS = ("prediction_id", "variant")
_ORDER = ("received_at", "request_id", "row")


def prediction_frame(records: Iterable[PredictionRecord], labels: Iterable[LabelRecord] = ()) -> pl.DataFrame:
    """Lay out the successful predictions in the order of their requests.

    Columns: ``prediction_id``, ``request_id``, ``row``, ``received_at``, ``variant``, ``version``, ``shadow``,
    ``score``, ``label``, ``label_time`` (when it became true), ``labelled_at`` (when it arrived), and ``input.NAME``
    for every feature, which only the answered row has; rows of shadows hold null there. The label that became known
    last wins; of a request that was sent twice under one id, the first prediction of each variant counts.
    """
    return join_labels(order_rows([table_frame(record_table(list(records)))]), frame_labels(labels))


def table_frame(table: pa.Table, features: Sequence[str] | None = None) -> pl.DataFrame:
    """Lay out the successful predictions of a table of records, in no certain order and without labels.

    ``features`` limits the ``input.`` columns. Everything stays columns: no row becomes a Python object.
    """
    table = table.filter(pc.and_(pc.equal(table.column("status"), 200), pc.is_valid(table.column("outputs"))))
    heads = pl.DataFrame(pl.from_arrow(table.select(HEAD))).rename({"id": "request_id"})
    scores, sizes = _scores(table)
    index = np.repeat(np.arange(table.num_rows), sizes)
    row = np.arange(index.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    frame = heads[index].with_columns(
        pl.Series("row", row, dtype=pl.Int64),
        scores,
        prediction_id=pl.concat_str("request_id", pl.lit(":"), pl.Series(row).cast(pl.String)),
    )
    answered = ~heads["shadow"].to_numpy()
    names = [name for name in table.schema.names if name.startswith(INPUT_PREFIX)]
    wanted = names if features is None else [name for name in names if name.removeprefix(INPUT_PREFIX) in set(features)]
    return frame.with_columns([_feature(table, name, sizes, answered) for name in wanted])


def order_rows(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put frames together in the order of the requests, answers before their shadows, each prediction once."""
    frame = pl.concat(frames, how="diagonal_relaxed")
    ordered = frame.sort("shadow", maintain_order=True).sort(*_ORDER, maintain_order=True)
    return ordered.unique(list(KEY_COLUMNS), keep="first", maintain_order=True)


def join_labels(frame: pl.DataFrame, labels: LabelFrames) -> pl.DataFrame:
    """Add ``label``, ``label_time`` and ``labelled_at`` to each row that has a label, by its id or its entity's key."""
    return frame.join(labels.resolve(frame), on="prediction_id", how="left", maintain_order="left")


def label_frame(labels: Iterable[LabelRecord]) -> pl.DataFrame:
    """Lay out labels by id, one row per prediction id: the one that became known last."""
    return frame_labels(labels).by_id


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


def _scores(table: pa.Table) -> tuple[pl.Series, npt.NDArray[np.int64]]:
    """Return the outputs of all rows, and how many rows each record has."""
    field = table.schema.field("outputs")
    column = table.column("outputs").combine_chunks()
    if is_json(field) or (column.type.value_type == pa.string() and len(column.flatten())):
        raise InvalidInput(
            "The prediction log holds outputs that are not single numbers.", hint="Monitor models that return one."
        )
    sizes = np.asarray(column.value_lengths(), dtype=np.int64) if len(column) else np.zeros(0, dtype=np.int64)
    return pl.Series("score", column.flatten()).cast(pl.Float64), sizes


def _feature(table: pa.Table, name: str, sizes: npt.NDArray[np.int64], answered: npt.NDArray[np.bool_]) -> pl.Series:
    """Return one feature of all rows: null where the record is a shadow, or has not one value per row."""
    column = table.column(name)
    if is_json(table.schema.field(name)):
        lists = read_json_lists(column)
        values = [
            value
            for given, size, counts in zip(lists, sizes, answered, strict=True)
            for value in (given if counts and given is not None and len(given) == size else [None] * size)
        ]
        return pl.Series(name, values, strict=False)
    array = column.combine_chunks()
    lengths = np.asarray(array.value_lengths().fill_null(-1), dtype=np.int64) if len(array) else sizes
    fits = (lengths == sizes) & answered
    flat = array.filter(pa.array(fits)).flatten() if len(array) else array.flatten()
    series = pl.Series(name, flat)
    if not fits.all():
        series = _spread(series, np.repeat(fits, sizes))
    return series.cast(pl.Null) if series.null_count() == series.len() else series


def _spread(values: pl.Series, places: npt.NDArray[np.bool_]) -> pl.Series:
    """Put values at the marked places and null elsewhere."""
    index = pl.Series(np.cumsum(places) - 1).set(~pl.Series(places), None)
    return values.gather(index) if values.len() else pl.Series(values.name, [None] * places.size, dtype=values.dtype)
