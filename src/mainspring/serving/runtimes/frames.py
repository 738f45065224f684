"""Between checked requests and pandas, for models that select columns by name; and from whatever a model answers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from mainspring.core import Corrupt, Foreign, Unavailable
from mainspring.serving.checked import Checked
from mainspring.serving.outputs import PREDICT, Outputs
from mainspring.serving.plan import Column, Plan

_NUMPY = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
_import_lock = threading.Lock()


def frame_builder(plan: Plan, model: str) -> Callable[[Checked], Any]:
    """Return what makes a DataFrame of a checked request, with the dtypes MLflow gives a model."""
    try:
        # Late: half a second and 50 MB, for models that select columns by name.
        import pandas as pd
    except ImportError as error:
        raise Unavailable(f"Model {model} needs pandas.", hint="pip install 'mainspring[mlflow]'") from error
    fixes = sys.modules.get("sklearn.utils.fixes")
    if fixes is not None and getattr(fixes, "pd", pd) is None:
        fixes.pd = pd  # type: ignore[attr-defined]  # it was imported without pandas (see `without_pandas`)
    text = "str" if int(pd.__version__.partition(".")[0]) >= 3 else object

    def series(column: Column, values: Foreign) -> Foreign:  # pandas has no types here
        if column.type == "string":
            return pd.Series(values, dtype=text)
        if column.type not in _NUMPY:
            return pd.Series(values)
        array = np.asarray(values)
        has_gaps = array.dtype.kind == "O" or (array.dtype.kind == "f" and bool(np.isnan(array).any()))
        if has_gaps and column.type not in ("double", "float"):
            return pd.Series(array)
        return pd.Series(array.astype(_NUMPY[column.type], copy=False))

    def build(checked: Checked) -> Foreign:  # pandas has no types here
        if plan.is_numeric and checked.matrix is not None and all(column.type == "double" for column in plan.columns):
            return pd.DataFrame(checked.matrix, columns=list(plan.names) if plan.has_names else None)
        found = {column.name: series(column, checked[column.name]) for column in plan.columns}
        frame = pd.DataFrame(found)
        if not plan.has_names:
            frame.columns = range(len(plan.columns))
        return frame

    return build


def open_input(checked: Checked) -> Foreign:  # a DataFrame, an array, arrays by name, a list of objects
    """Return what a model without a signature gets, as MLflow's server would give it."""
    if checked.form == "table":
        # Late: it is there already, MLflow needs it.
        import pandas as pd

        frame = pd.DataFrame(checked.columns)
        if checked.names == tuple(map(str, range(len(checked.names)))):
            frame.columns = range(len(checked.names))
        return frame
    if checked.form == "arrays":
        return dict(checked.columns)
    if checked.form == "records":
        return [{name: np.asarray(value) for name, value in row.items()} for row in checked[checked.names[0]]]
    return checked[checked.names[0]] if checked.matrix is None else checked.matrix


def to_outputs(found: Foreign, rows: int, name: str = PREDICT) -> Outputs:  # whatever a model answers
    """Return what a model answered as outputs; raise `Corrupt` unless there is one answer per row."""
    outputs = any_outputs(found, name)
    if any(array.ndim == 0 or len(array) != rows for array in outputs.arrays):
        sizes = sorted({array.shape[0] if array.ndim else 0 for array in outputs.arrays})
        raise Corrupt(f"The model answered {sizes[0] if sizes else 0} rows to a request of {rows}.")
    return outputs


def any_outputs(found: Foreign, name: str = PREDICT) -> Outputs:  # whatever a model answers
    """Return what a model answered as outputs, however many answers there are."""
    if isinstance(found, np.ndarray) or hasattr(found, "toarray"):
        return Outputs((name,), (found if isinstance(found, np.ndarray) else found.toarray(),))
    if hasattr(found, "columns") and hasattr(found, "to_numpy"):
        names = tuple(str(column) for column in found.columns)
        arrays = tuple(found.iloc[:, place].to_numpy() for place in range(len(names)))
        return Outputs(names, arrays, is_frame=True)
    if hasattr(found, "to_numpy"):
        return Outputs(("0" if found.name is None else str(found.name),), (found.to_numpy(),), is_frame=True)
    if isinstance(found, Mapping):
        return Outputs(tuple(map(str, found)), tuple(map(_of_list, found.values())), is_named=True)
    if isinstance(found, list) and found and all(isinstance(one, np.ndarray) and one.ndim == 2 for one in found):
        return Outputs(tuple(f"{name}_{place}" for place in range(len(found))), tuple(found))
    return Outputs((name,), (_of_list(found),))


def _keep_types(array: np.ndarray[Any, Any], found: Foreign) -> np.ndarray[Any, Any]:
    """Leave a list as it is where numpy would make texts of its numbers, or numbers of its truths."""
    if array.ndim != 1 or not isinstance(found, list | tuple):
        return array
    kinds = set(map(type, found))
    if len(kinds) < 2 or not (bool in kinds or (str in kinds and array.dtype.kind == "U")):
        return array
    kept = np.empty(len(found), dtype=object)
    kept[:] = found
    return kept


def _of_list(found: Foreign) -> np.ndarray[Any, Any]:
    """Make an array of any list; of one whose entries have different shapes, an array of objects."""
    try:
        array = np.asarray(found)
    except ValueError:
        array = np.empty(len(found), dtype=object)
        array[:] = found
    return _keep_types(array, found)


@contextmanager
def without_pandas() -> Iterator[None]:
    """Keep a library that merely looks whether pandas is there from importing it: half a second and 50 MB."""
    with _import_lock:
        if "pandas" in sys.modules:
            yield
            return
        sys.modules["pandas"] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules["pandas"]
