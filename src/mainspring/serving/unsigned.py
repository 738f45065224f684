"""Requests to a model that says nothing about its inputs: it gets what was sent, as MLflow's own server would give it.

MLflow gives such a model a DataFrame for ``dataframe_split``, ``dataframe_records``, CSV and Parquet, and arrays for
``instances`` and ``inputs``; the types are what pandas and numpy make of the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Foreign
from mainspring.serving.checked import Checked, Form
from mainspring.serving.faults import BadRequest, show
from mainspring.serving.plan import INPUT
from mainspring.serving.values import Values

_MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>"})
"""What pandas reads as a missing value in CSV."""
_BOOLEANS = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}


def take(columns: Mapping[str, Any] | None, rows: Sequence[Any] | NDArray[Any], form: Form | None) -> Checked:
    """Return a request in the form its protocol says, or in the one its values suggest; refuse what has none."""
    if columns is not None:
        if form is None:
            return _tensors(columns)
        return _table(columns) if form == "table" else _arrays(columns)
    has_objects = isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) for row in rows)
    if not has_objects:
        return _array(rows)
    if form == "records":
        return Checked((INPUT,), len(rows), {INPUT: list(rows)}, form="records")
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row.get(name) for row in rows] for name in names}
    return _arrays(found) if form == "arrays" else _table(found)


def infer_cells(texts: Sequence[str]) -> list[Any]:
    """Give the cells of a CSV column the type that all of them have: whole numbers, numbers, booleans, else texts."""
    values = [None if text in _MISSING else text for text in texts]
    given = [text for text in values if text is not None]
    if given and all(text in _BOOLEANS for text in given):
        return [None if text is None else _BOOLEANS[text] for text in values]
    for kind in (int, float):
        try:
            return [None if text is None else kind(text) for text in values]
        except ValueError:
            continue
    return values


def _tensors(columns: Mapping[str, Any]) -> Checked:
    """Take named tensors: one is an array, several are a table if each is a column, else arrays."""
    if len(columns) == 1:
        return _array(next(iter(columns.values())))
    arrays = {name: _to_array(name, values) for name, values in columns.items()}
    if any(array.ndim != 1 and array.shape[1:] != (1,) for array in arrays.values()):
        return _arrays(arrays)
    flat = {name: array.reshape(-1) for name, array in arrays.items()}
    # pandas finds the type of texts and of values with gaps by itself; an array of them it takes for objects.
    return _table({name: array.tolist() if array.dtype.kind in "OSU" else array for name, array in flat.items()})


def _table(columns: Mapping[str, Any]) -> Checked:
    found: dict[str, Values] = dict(columns)
    sizes = {len(values) for values in found.values()}
    if len(sizes) > 1:
        raise BadRequest(f"the columns have different numbers of rows: {sorted(sizes)[:5]}")
    _require_rows(sum(sizes))
    return Checked(tuple(found), sizes.pop(), found, form="table")


def _arrays(columns: Mapping[str, Any]) -> Checked:
    found: dict[str, Values] = {name: _to_array(name, values) for name, values in columns.items()}
    first = next(iter(found.values()), np.empty(0))
    rows = len(first) if np.ndim(first) else 1
    _require_rows(rows)
    return Checked(tuple(found), rows, found, form="arrays")


def _array(values: Foreign) -> Checked:  # whatever was sent
    array = _to_array(INPUT, values)
    rows = len(array) if array.ndim else 1
    _require_rows(rows)
    return Checked((INPUT,), rows, {INPUT: array}, form="array")


def _to_array(name: str, values: Foreign) -> NDArray[Any]:  # whatever was sent
    try:
        return np.asarray(values)
    except ValueError as error:
        raise BadRequest(f"input {show(name)} is ragged: its lists have different lengths") from error


def _require_rows(rows: int) -> None:
    if rows == 0:
        raise BadRequest("the request has no rows")
