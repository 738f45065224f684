"""A request that keeps the plan: the arrays a model gets, and how several requests become one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mainspring.serving.values import Values

NO_PARAMS: Mapping[str, object] = {}
Form: TypeAlias = Literal["table", "arrays", "array", "records"]
"""What a model without a signature gets: a DataFrame, arrays by name, one array, or a list of objects."""


class Checked:
    """Checked columns or tensors, in the order of the plan.

    Requests of numbers only are kept as one float64 matrix (rows, columns), NaN = missing; their columns are
    views of it. Texts and nested values are lists, everything else arrays; tensors are arrays whose first
    dimension is the rows.
    """

    __slots__ = ("_columns", "form", "matrix", "names", "notes", "params", "rows")

    def __init__(
        self,
        names: tuple[str, ...],
        rows: int,
        columns: dict[str, Values] | None = None,
        matrix: NDArray[np.float64] | None = None,
        *,
        notes: Sequence[str] = (),
        params: Mapping[str, object] = NO_PARAMS,
        form: Form | None = None,
    ) -> None:
        self.names = names
        self.rows = rows
        self.matrix = matrix
        """All columns as one matrix, where every one is a number."""
        self.notes = tuple(notes)
        """What is odd about the request without being wrong: texts the model has not learned. For the log."""
        self.params = params
        """Parameters of the call; only requests with equal ones may share a batch."""
        self.form = form
        """What the model gets, where no signature says it."""
        self._columns = columns

    @property
    def columns(self) -> dict[str, Values]:
        """The columns, or tensors, by name."""
        if self._columns is None:
            matrix = self.matrix
            assert matrix is not None
            self._columns = {name: matrix[:, place] for place, name in enumerate(self.names)}
        return self._columns

    def to_matrix(self) -> NDArray[Any]:
        """Return all numbers as one matrix of shape (rows, columns); a single tensor as it is."""
        if self.matrix is not None:
            return self.matrix
        arrays = [np.asarray(self.columns[name]) for name in self.names]
        return arrays[0] if len(arrays) == 1 and arrays[0].ndim != 1 else np.column_stack(arrays)

    def slice(self, start: int, stop: int) -> Checked:
        """Return some of the rows, to ask the model again for each request of a batch that failed."""
        if self.matrix is not None:
            return Checked(self.names, stop - start, matrix=self.matrix[start:stop], params=self.params)
        columns = {name: values if _is_single(values) else values[start:stop] for name, values in self.columns.items()}
        return Checked(self.names, stop - start, columns, params=self.params, form=self.form)

    def __getitem__(self, name: str) -> Values:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


def concatenate(parts: Sequence[Checked]) -> Checked:
    """Put the rows of several requests to one model together, in their order; they must have the same params."""
    first = parts[0]
    if len(parts) == 1:
        return first
    rows = sum(part.rows for part in parts)
    matrices = [part.matrix for part in parts if part.matrix is not None]
    if len(matrices) == len(parts):
        return Checked(first.names, rows, matrix=np.concatenate(matrices), params=first.params)
    columns = {name: _join([part.columns[name] for part in parts]) for name in first.names}
    return Checked(first.names, rows, columns, params=first.params, form=first.form)


def can_join(first: Checked, other: Checked) -> bool:
    """Say whether two requests may share a batch: equal params, and tensors of equal size but for the rows."""
    if first.params != other.params:
        return False
    if first.form is not None or other.form is not None:
        return _is_like(first, other)
    if first.matrix is not None and other.matrix is not None:
        return bool(first.matrix.shape[1] == other.matrix.shape[1])
    return all(_shape(first.columns[name]) == _shape(other.columns[name]) for name in first.names)


def _is_single(values: Values) -> bool:
    return isinstance(values, np.ndarray) and values.ndim == 0


def _is_like(first: Checked, other: Checked) -> bool:
    """Say whether two arrays are of one type and size; of tables the types would depend on what shares the batch."""
    if first.form != "array" or other.form != "array":
        return False
    one, two = np.asarray(first[first.names[0]]), np.asarray(other[other.names[0]])
    return one.dtype == two.dtype and one.ndim == two.ndim > 0 and one.shape[1:] == two.shape[1:]


def _join(parts: list[Values]) -> Values:
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    joined: list[Any] = []
    for part in parts:
        joined.extend(part.tolist() if isinstance(part, np.ndarray) else part)
    return joined


def _shape(values: Values) -> tuple[int, ...]:
    return values.shape[1:] if isinstance(values, np.ndarray) else ()
