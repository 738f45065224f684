"""The signature of a model: the raw columns it takes and what it answers, in MLflow's types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.components.estimators import Task
from mainspring.components.transforms import FittedTransform

if TYPE_CHECKING:
    import polars as pl
    from mlflow.models import ModelSignature


def make_signature(rows: pl.DataFrame, fitted: FittedTransform, task: Task) -> ModelSignature:
    """Describe the raw columns; those that were never missing in training are required."""
    from mlflow.models import ModelSignature as Signature
    from mlflow.types import ColSpec, Schema

    inputs = [
        ColSpec(_type_of(rows[name], name in fitted.categorical), name, required=rows[name].null_count() == 0)
        for name in fitted.names
    ]
    return Signature(inputs=Schema(inputs), outputs=Schema([ColSpec("double")]))


def _type_of(values: pl.Series, is_categorical: bool) -> str:
    """Return MLflow's type; whole numbers that are never missing stay whole, so that nothing else is accepted."""
    import polars as pl

    if is_categorical:
        return "string"
    if values.dtype == pl.Boolean and values.null_count() == 0:
        return "boolean"
    fits = values.dtype.is_integer() and values.dtype != pl.UInt64  # of which half is beyond a long
    return "long" if fits and values.null_count() == 0 else "double"
