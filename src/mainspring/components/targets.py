"""The target column: labels as a learner wants them, and what each number means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mainspring.components.estimators import Task
from mainspring.components.tables import require_columns
from mainspring.core import InvalidInput

if TYPE_CHECKING:
    import polars as pl

Label = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Target:
    """Rows that have a label, and their labels: float64, for a classification the place in ``classes``."""

    rows: pl.DataFrame
    labels: NDArray[np.float64]
    classes: tuple[Label, ...] = ()

    def take(self, places: NDArray[np.int64]) -> Target:
        """Return some of the rows."""
        return Target(self.rows[places], self.labels[places], self.classes)


def read_target(frame: pl.DataFrame, target: str, task: Task, classes: tuple[Label, ...] = ()) -> Target:
    """Leave out rows without a label and number the classes, in the order of ``classes`` or else sorted.

    Raises `InvalidInput` if the labels do not fit the task, or one is not among the ``classes``.
    """
    import polars as pl

    require_columns(frame, [target])
    rows = frame.filter(pl.col(target).is_not_null())
    if rows.height == 0:
        raise InvalidInput(f"No row has a label in {target!r}.", hint="Wait for labels.")
    if task == "regression":
        return Target(rows, _numbers(rows[target]))
    found = tuple(rows[target].unique().sort().to_list())
    known = classes or found
    _check_classes(target, task, found, known)
    places = {label: place for place, label in enumerate(known)}
    return Target(rows, np.array([places[label] for label in rows[target].to_list()], dtype=np.float64), known)


def _numbers(labels: pl.Series) -> NDArray[np.float64]:
    if not labels.dtype.is_numeric():
        raise InvalidInput(f"Column {labels.name!r} is {labels.dtype}, not numbers.", hint="Is it a classification?")
    numbers: NDArray[np.float64] = labels.cast(float).to_numpy()
    if not np.isfinite(numbers).all():
        raise InvalidInput(f"Column {labels.name!r} has labels that are not finite.", hint="Drop these rows.")
    return numbers


def _check_classes(target: str, task: Task, found: tuple[Any, ...], known: tuple[Any, ...]) -> None:
    strange = [label for label in found if label not in known]
    if strange:
        raise InvalidInput(f"The model does not know the class {strange[0]!r} of {target!r}.", hint="Train it again.")
    if len(known) < 2:
        raise InvalidInput(
            f"Every row of column {target!r} has the one class {known[0]!r}.", hint="There is nothing to learn."
        )
    if task == "binary" and len(known) != 2:
        raise InvalidInput(
            f"Column {target!r} has {len(known)} classes, a binary target has 2.", hint="Use task multiclass."
        )
    if len(known) > 1000:
        raise InvalidInput(f"Column {target!r} has {len(known):,} classes.", hint="Is it a regression?")
