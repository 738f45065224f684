"""The transform: from named columns to the matrix a model reads.

It is fitted once, on the training data, travels with the model as JSON, and is applied by training and serving
alike. It needs numpy and nothing else, because endpoint processes import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, InvalidInput

if TYPE_CHECKING:
    import polars as pl


@runtime_checkable
class ArrayLike(Protocol):
    """A column that can become a numpy array: a polars or pandas Series."""

    def to_numpy(self) -> NDArray[Any]:
        """Return the values as an array, missing ones as NaN or None."""
        ...


ColumnValues = Sequence[object] | NDArray[Any] | ArrayLike
Matrix = NDArray[np.float64]


class NumericColumn(msgspec.Struct, frozen=True, kw_only=True, tag="numeric"):
    """A number, passed on as it is; missing is NaN."""

    name: str

    def encode(self, values: ColumnValues) -> Matrix:
        """Return the values as float64 of shape (n,); None becomes NaN."""
        try:
            return np.asarray(_plain(values), dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(f"Column {self.name!r} must hold numbers: {error}.") from error


class CategoricalColumn(msgspec.Struct, frozen=True, kw_only=True, tag="categorical", dict=True):
    """A text out of a vocabulary, passed on as its position there; missing and unseen texts are NaN."""

    name: str
    categories: tuple[str, ...]
    """The values of the training data, sorted."""

    @cached_property
    def _codes(self) -> dict[object, float]:
        return {category: float(code) for code, category in enumerate(self.categories)}

    def encode(self, values: ColumnValues) -> Matrix:
        """Return the codes as float64 of shape (n,)."""
        plain = _plain(values)
        codes = self._codes
        try:
            return np.array(
                [codes.get(value, np.nan) for value in (plain.tolist() if isinstance(plain, np.ndarray) else plain)],
                dtype=np.float64,
            )
        except TypeError as error:
            raise InvalidInput(f"Column {self.name!r} must hold texts: {error}.") from error


Column = NumericColumn | CategoricalColumn


class Transform(msgspec.Struct, frozen=True, kw_only=True):
    """The columns a model reads, in the order of its matrix, and how each becomes a number."""

    columns: tuple[Column, ...]

    @property
    def feature_names(self) -> list[str]:
        """The names of the matrix's columns."""
        return [column.name for column in self.columns]

    @property
    def categorical_indices(self) -> list[int]:
        """The positions of the categorical columns."""
        return [place for place, column in enumerate(self.columns) if isinstance(column, CategoricalColumn)]

    def apply(self, columns: Mapping[str, ColumnValues]) -> Matrix:
        """Return the matrix, float64 of shape (rows, features); other columns are ignored.

        Lists, numpy arrays and polars series give the same matrix; for a polars frame pass ``frame.to_dict()``.
        Raises `InvalidInput` for a column that is missing, is not of its type or has another length.
        """
        encoded = [column.encode(self._find(columns, column.name)) for column in self.columns]
        rows = len(encoded[0]) if encoded else 0
        matrix = np.empty((rows, len(encoded)), dtype=np.float64)
        for place, values in enumerate(encoded):
            if values.shape != (rows,):
                raise InvalidInput(
                    f"Column {self.columns[place].name!r} has the shape {values.shape}, "
                    f"column {self.columns[0].name!r} has {rows} rows.",
                    hint="Give every column one value per row.",
                )
            matrix[:, place] = values
        return matrix

    def to_json(self) -> bytes:
        """Encode as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Transform:
        """Decode what `to_json` made; raise `Corrupt` if it is something else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise Corrupt(f"This is not a transform: {error}.") from error

    @staticmethod
    def _find(columns: Mapping[str, ColumnValues], name: str) -> ColumnValues:
        try:
            return columns[name]
        except KeyError:
            raise InvalidInput(f"Column {name!r} is missing.", hint="Send every column the model reads.") from None


def fit_transform(frame: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> Transform:
    """Learn the vocabularies of the training data; the matrix has the numeric columns first."""
    missing = sorted({*numeric, *categorical} - set(frame.columns))
    if missing:
        raise InvalidInput(f"The training data has no column {', '.join(map(repr, missing))}.")
    numbers = [NumericColumn(name=name) for name in numeric]
    return Transform(columns=(*numbers, *(_fit_categorical(frame[name]) for name in categorical)))


def _fit_categorical(series: pl.Series) -> CategoricalColumn:
    values = series.drop_nulls().unique().to_list()
    if any(not isinstance(value, str) for value in values):
        raise InvalidInput(f"Column {series.name!r} is {series.dtype}, not text.", hint="Name it a numeric column.")
    return CategoricalColumn(name=series.name, categories=tuple(sorted(values)))


def _plain(values: ColumnValues) -> Sequence[object] | NDArray[Any]:
    """Return a list or an array; a list of numbers and None goes to numpy as it is."""
    if isinstance(values, list | tuple | np.ndarray):
        return values
    return values.to_numpy() if isinstance(values, ArrayLike) else np.asarray(values)
