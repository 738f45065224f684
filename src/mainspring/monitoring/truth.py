"""Labels as frames: by prediction id, and by the key of an entity, which is looked up among the predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from mainspring.serving import LabelRecord
from mainspring.serving.columnar import INPUT_PREFIX

_SCHEMA = {
    "prediction_id": pl.String,
    "label": pl.Float64,
    "label_time": pl.Int64,
    "labelled_at": pl.Int64,
    "column": pl.String,
    "value": pl.String,
    "at": pl.Int64,
}
_FIELDS = ("id", "label", "time", "received_at", "column", "value", "at")
_LABEL = ["prediction_id", "label", "label_time", "labelled_at"]


@dataclass(frozen=True, slots=True)
class LabelFrames:
    """Labels by id (one per prediction: the newest), and by key, as they came."""

    by_id: pl.DataFrame
    by_key: pl.DataFrame

    @property
    def key_columns(self) -> list[str]:
        """The features that labels refer to entities by."""
        return sorted(self.by_key["column"].unique())

    def within(self, start: int, end: int) -> LabelFrames:
        """Keep the labels by key for predictions of an interval; those by id say themselves what they are for."""
        return LabelFrames(self.by_id, self.by_key.filter(pl.col("at").is_between(start, end, closed="left")))

    def resolve(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return one label per prediction id, those by key looked up in a frame of predictions."""
        found = [self._match(frame, name).drop_nulls("prediction_id") for name in self.key_columns]
        return _last(pl.concat([self.by_id, *found])) if found else self.by_id

    def count_unmatched(self, frame: pl.DataFrame) -> int:
        """Count the labels by key that no prediction of a frame is for."""
        return sum(self._match(frame, name)["prediction_id"].null_count() for name in self.key_columns)

    def _match(self, frame: pl.DataFrame, name: str) -> pl.DataFrame:
        """Give each label by key the newest row predicted for its entity at its moment or before; null if none."""
        labels = self.by_key.filter(pl.col("column") == name).drop("prediction_id", "column")
        feature = INPUT_PREFIX + name
        if feature not in frame.columns:
            return labels.select(pl.lit(None, pl.String).alias("prediction_id"), *_LABEL[1:])
        rows = frame.filter(~pl.col("shadow")).select(
            "prediction_id", pl.col("received_at").alias("at"), value=_key(feature, frame.schema[feature])
        )
        return (
            labels.sort("at")
            .join_asof(
                rows.drop_nulls("value").sort("at"), on="at", by="value", strategy="backward", check_sortedness=False
            )
            .select(_LABEL)
        )


def frame_labels(labels: Iterable[LabelRecord]) -> LabelFrames:
    """Lay out labels; of several for one prediction the one that became known last stays."""
    known = list(labels)
    columns = [[getattr(label, field) for label in known] for field in _FIELDS]
    frame = pl.DataFrame(dict(zip(_SCHEMA, columns, strict=True)), schema=_SCHEMA)
    return LabelFrames(
        by_id=_last(frame.filter(pl.col("prediction_id") != "").select(_LABEL)),
        by_key=frame.filter(pl.col("prediction_id") == ""),
    )


def _last(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("label_time", "labelled_at", maintain_order=True).unique("prediction_id", keep="last")


def _key(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a feature as the text of a key: whole numbers without a fraction."""
    values = pl.col(column)
    if dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        return pl.when(whole == values).then(whole.cast(pl.String)).otherwise(values.cast(pl.String))
    return values.cast(pl.String)
