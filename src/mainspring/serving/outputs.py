"""What a model answered: one or several named arrays with one entry per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREDICT = "predict"


@dataclass(frozen=True, slots=True)
class Outputs:
    """The arrays of one model call; the first dimension of each is the rows."""

    names: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]
    is_frame: bool = False
    """Whether the arrays are the columns of a table: MLflow's protocol answers these as records."""
    is_named: bool = False
    """Whether the model gave the names: MLflow's protocol answers these as an object of lists, even if it is one."""
    keys: Mapping[str, tuple[Any, ...]] | None = None
    """Of an array whose columns have names of their own (scores by class), those: rows are objects then."""

    @property
    def rows(self) -> int:
        """The number of rows; 0 for an answer that has none."""
        return len(self.arrays[0]) if self.arrays[0].ndim else 0

    @property
    def primary(self) -> NDArray[Any]:
        """The array that protocols with one answer per row send."""
        return self.arrays[0]

    def slice(self, start: int, stop: int) -> Outputs:
        """Return the rows from ``start`` up to ``stop``: one request's share of a batch."""
        arrays = tuple(array[start:stop] for array in self.arrays)
        return Outputs(self.names, arrays, self.is_frame, self.is_named, self.keys)


def single(array: NDArray[Any], name: str = PREDICT) -> Outputs:
    """Make outputs of one array."""
    return Outputs((name,), (array,))


def join_outputs(parts: Sequence[Outputs]) -> Outputs:
    """Put the outputs of several calls of one model together, row after row."""
    first = parts[0]
    if len(parts) == 1:
        return first
    arrays = tuple(np.concatenate(arrays) for arrays in zip(*(part.arrays for part in parts), strict=True))
    return replace(first, arrays=arrays)
