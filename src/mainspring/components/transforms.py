"""Transform: learned on the training rows, kept as an artifact, applied anywhere, and inside the model when it serves.

The artifact is a folder. ``transform.json`` names the columns and their vocabularies
(`mainspring.features.Transform`); with the style ``standard``, ``transform.skops`` holds the fitted scikit-learn steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.tables import read_table, require_columns, write_table
from mainspring.core import Corrupt, Foreign, InvalidInput, NotFound, Unavailable
from mainspring.features import CategoricalColumn, Transform, fit_transform
from mainspring.serving.pyfunc import TRANSFORM

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

STEPS = "transform.skops"
STYLES = ("codes", "standard")
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FittedTransform:
    """A transform that has seen the training rows; ``steps`` are scikit-learn's, None with the style ``codes``."""

    columns: Transform
    steps: Any = None

    @property
    def names(self) -> list[str]:
        """The raw columns, as clients send them."""
        return self.columns.feature_names

    @property
    def categorical(self) -> set[str]:
        """Which of them are texts."""
        return {self.names[index] for index in self.columns.categorical_indices}

    def matrix(self, frame: pl.DataFrame) -> Matrix:
        """Return what the model reads, float64 of shape (rows, features)."""
        require_columns(frame, self.names)
        if self.steps is None:
            return self.columns.apply(frame.select(self.names).to_dict())
        return np.asarray(self.steps.transform(to_pandas(frame, self)), dtype=np.float64)

    def feature_names(self) -> list[str]:
        """Return the names of the matrix's columns."""
        return self.names if self.steps is None else [str(name) for name in self.steps.get_feature_names_out()]

    def as_steps(self, frame: pl.DataFrame) -> Foreign:  # an estimator
        """Return scikit-learn steps that give the same matrix from a DataFrame, for models that are estimators."""
        return self.steps if self.steps is not None else _coding_steps(self.columns).fit(to_pandas(frame, self))


def fit_columns(
    train: ArtifactFile,
    *,
    transform: ArtifactFile,
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    without: Sequence[str] = (),
    style: str = "codes",
) -> None:
    """Learn a transform from the training rows and write it down.

    Without named columns, all but ``without`` (the target, keys, times) are taken: texts as categories, numbers as
    numbers. ``codes`` gives every category a number and leaves the rest, for trees; ``standard`` fills gaps with
    medians, scales, and makes a column per category, for linear models and networks.
    """
    frame = read_table(train)
    if not numeric and not categorical:
        numeric, categorical = choose_columns(frame, without)
    save_transform(fit_steps(frame, numeric=numeric, categorical=categorical, style=style), Path(transform.path))
    transform.metadata.update(style=style, numeric=list(numeric), categorical=list(categorical))


def apply_columns(
    data: ArtifactFile, *, transform: ArtifactFile, prepared: ArtifactFile, keep: Sequence[str] = ()
) -> None:
    """Write the matrix of some rows as a table; ``keep`` names columns to carry along as they are."""
    import polars as pl

    frame, fitted = read_table(data), load_transform(Path(transform.path))
    require_columns(frame, keep)
    table = pl.DataFrame(fitted.matrix(frame), schema=fitted.feature_names(), orient="row")
    taken = next((name for name in keep if name in table.columns or list(keep).count(name) > 1), None)
    if taken is not None:
        raise InvalidInput(f"Column {taken!r} would be there twice.", hint="Keep columns that are no features, once.")
    write_table(prepared, table.with_columns(frame.select(keep)))


def choose_columns(frame: pl.DataFrame, without: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which columns are numbers (or booleans) and which are texts; others, such as times, are neither."""
    import polars as pl

    require_columns(frame, without)
    numeric, categorical = [], []
    for name, kind in frame.schema.items():
        if name in without:
            continue
        if kind.is_numeric() or kind == pl.Boolean:
            numeric.append(name)
        elif kind == pl.String:
            categorical.append(name)
    if not numeric and not categorical:
        raise InvalidInput("No column is left to learn from.", hint="Name them: numeric=…, categorical=…")
    return numeric, categorical


def fit_steps(
    frame: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str], style: str = "codes"
) -> FittedTransform:
    """Learn a transform from training rows."""
    if style not in STYLES:
        raise InvalidInput(f"{style[:50]!r} is no style of a transform.", hint=f"Use {' or '.join(STYLES)}.")
    if frame.height == 0:
        raise InvalidInput("There are no rows to learn a transform from.", hint="Check what the step before wrote.")
    _check_columns(frame, numeric, categorical)
    columns = fit_transform(frame, numeric=numeric, categorical=categorical)
    fitted = FittedTransform(columns)
    if style == "codes":
        return fitted
    return FittedTransform(columns, _standard_steps(columns).fit(to_pandas(frame, fitted)))


def _check_columns(frame: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> None:
    """Raise `InvalidInput` for a column that is named twice, or named as numbers and holds none, or infinite ones."""
    import polars as pl

    named = [*numeric, *categorical]
    require_columns(frame, named)
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"Column {twice!r} is named twice.", hint="Name it once, as numeric or as categorical.")
    for name in numeric:
        values = frame[name]
        if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
            raise InvalidInput(
                f"Column {name!r} is {values.dtype}, not numbers.",
                hint="Name it categorical if it is text; or leave it out.",
            )
        count = int(values.is_infinite().sum()) if values.dtype.is_float() else 0
        if count:
            raise InvalidInput(
                f"Column {name!r} has {count} infinite values in {frame.height} rows.", hint="Make them null."
            )


def save_transform(fitted: FittedTransform, folder: Path) -> None:
    """Write a fitted transform into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRANSFORM).write_bytes(fitted.columns.to_json())
    if fitted.steps is not None:
        _import_skops().dump(fitted.steps, folder / STEPS)


def load_transform(folder: Path) -> FittedTransform:
    """Read what `save_transform` wrote; nothing but known scikit-learn types is ever built from it."""
    path = folder / TRANSFORM
    if not path.is_file():
        raise NotFound(f"There is no transform in {folder}.", hint="Give the output of fit_transform.")
    columns = Transform.from_json(path.read_bytes())
    if not (folder / STEPS).is_file():
        return FittedTransform(columns)
    skops = _import_skops()
    try:
        return FittedTransform(columns, skops.load(folder / STEPS, trusted=_TRUSTED))
    except (skops.exceptions.UntrustedTypesFoundException, ValueError, KeyError) as error:
        raise Corrupt(f"{folder / STEPS} is not a transform: {error}.") from error


def to_pandas(frame: pl.DataFrame, fitted: FittedTransform) -> pd.DataFrame:
    """Return the raw columns as scikit-learn's steps want them: numbers as float64, missing texts as None."""
    import pandas as pd

    columns: Mapping[str, Any] = {
        name: frame[name].to_list() if name in fitted.categorical else frame[name].cast(float).to_numpy()
        for name in fitted.names
    }
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype=object if name in fitted.categorical else np.float64)
            for name, values in columns.items()
        }
    )


_TRUSTED = ["numpy.dtype", "sklearn.compose._column_transformer._RemainderColsList"]


def _coding_steps(columns: Transform) -> Foreign:  # an estimator
    from sklearn.preprocessing import OrdinalEncoder

    encoder = OrdinalEncoder(
        categories=[np.array(known, dtype=object) for known in _vocabularies(columns)],
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
    )
    return _by_kind(columns, "passthrough", encoder)


def _standard_steps(columns: Transform) -> Foreign:  # an estimator
    try:
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler
    except ImportError as error:
        raise Unavailable("The style standard needs scikit-learn.", hint="pip install 'mainspring[sklearn]'") from error
    encoder = OneHotEncoder(
        categories=[np.array(known, dtype=object) for known in _vocabularies(columns)],
        handle_unknown="ignore",
        sparse_output=False,
    )
    filler = SimpleImputer(strategy="median", keep_empty_features=True)
    return _by_kind(columns, make_pipeline(filler, StandardScaler()), encoder)


def _by_kind(columns: Transform, numbers: object, texts: object) -> Foreign:  # an estimator
    from sklearn.compose import ColumnTransformer

    categorical = {columns.feature_names[index] for index in columns.categorical_indices}
    numeric = [name for name in columns.feature_names if name not in categorical]
    parts = [
        ("numeric", numbers, numeric),
        ("categorical", texts, sorted(categorical, key=columns.feature_names.index)),
    ]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)


def _vocabularies(columns: Transform) -> list[tuple[str, ...]]:
    found = [column for column in columns.columns if isinstance(column, CategoricalColumn)]
    empty = [column.name for column in found if not column.categories]
    if empty:
        raise InvalidInput(f"Column {empty[0]!r} has no value in the training rows.", hint="Leave it out.")
    return [column.categories for column in found]


def _import_skops() -> Foreign:  # a module
    try:
        import skops.io
    except ImportError as error:
        raise Unavailable("Such a transform needs skops.", hint="pip install 'mainspring[sklearn]'") from error
    return skops.io
