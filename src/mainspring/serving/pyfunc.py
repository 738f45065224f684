"""The loader of our own MLflow flavour: a LightGBM booster and the transform it was trained with.

``mlflow.pyfunc.log_model(loader_module="mainspring.serving.pyfunc", data_path=<folder>)`` names this module in the
model; the endpoint and ``mlflow.pyfunc.load_model`` both come here, so both run the same code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt
from mainspring.features import Transform
from mainspring.serving.lightgbm import Booster

if TYPE_CHECKING:
    import pandas as pd

BOOSTER = "booster.txt"
TRANSFORM = "transform.json"


class TransformedBooster:
    """A booster behind its transform."""

    def __init__(self, transform: Transform, booster: Booster) -> None:
        self.transform = transform
        self.booster = booster
        if len(transform.feature_names) != booster.features:
            raise Corrupt(f"The booster has {booster.features} features, its transform {len(transform.feature_names)}.")

    def predict_columns(self, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> NDArray[np.float64]:
        """Predict columns of raw values: one number per row."""
        return self.booster.predict(self.transform.apply(columns))

    def predict(
        self, model_input: pd.DataFrame | Mapping[str, Sequence[object]], params: dict[str, Any] | None = None
    ) -> NDArray[np.float64]:
        """Predict a DataFrame or a mapping of columns, as MLflow asks for it; there are no parameters."""
        return self.predict_columns({str(name): _plain(model_input[name]) for name in model_input})


def load_transformed_booster(folder: Path) -> TransformedBooster:
    """Read ``booster.txt`` and ``transform.json`` from a model's data folder."""
    try:
        transform = Transform.from_json((folder / TRANSFORM).read_bytes())
        return TransformedBooster(transform, Booster((folder / BOOSTER).read_bytes()))
    except FileNotFoundError as error:
        raise Corrupt(f"The model data has no {Path(str(error.filename)).name}.") from error


def _load_pyfunc(data_path: str) -> TransformedBooster:
    """Load the model for MLflow; the name is MLflow's convention."""
    return load_transformed_booster(Path(data_path))


def _plain(values: pd.Series | NDArray[Any] | Sequence[object]) -> list[object]:
    """Turn a column of any kind into values with None for what is missing (None, NaN, pandas' NA)."""
    return [None if _is_missing(value) else value for value in list(values)]


def _is_missing(value: object) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))
