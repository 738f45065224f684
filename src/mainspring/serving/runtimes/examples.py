"""Rows to try a model with before any client does: its own input example, or rows made from its plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.blobs import check_relative
from mainspring.core import MainspringError
from mainspring.serving.checked import Checked
from mainspring.serving.mlmodel import MLmodel
from mainspring.serving.plan import FLOATS, Column, DataType, Plan, Tensor
from mainspring.serving.validation import MLFLOW, check, check_rows
from mainspring.serving.values import Values

_MAX_EXAMPLE = 4 << 20
_MAX_PROBED = 64
_OPEN_SIZE = 4


def read_example(folder: Path, description: MLmodel, plan: Plan) -> Checked | None:
    """Return the input example that was logged with the model, if there is one that keeps the plan."""
    info = description.saved_input_example_info or {}
    try:
        path = folder / check_relative(str(info.get("artifact_path", "")))
        if not path.is_file() or path.stat().st_size > _MAX_EXAMPLE:
            return None
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and "columns" in document:
            columns = dict(
                zip(map(str, document["columns"]), map(list, zip(*document["data"], strict=True)), strict=True)
            )
            return check(plan, columns, len(document["data"]), MLFLOW)
        if isinstance(document, dict) and "inputs" in document:
            document = document["inputs"]
        return check_rows(plan, document, MLFLOW) if isinstance(document, list) else None
    except (MainspringError, ValueError, TypeError, KeyError, IndexError):
        return None


def make_example(plan: Plan, rows: int, seed: int = 0) -> Checked:
    """Make random rows that keep a plan; the same every time."""
    generator = _Dice(seed)
    if plan.tensors:
        tensors: dict[str, Values] = {one.name: _random_tensor(generator, one, rows) for one in plan.tensors}
        first = tensors[plan.tensors[0].name]
        is_matrix = (
            len(tensors) == 1 and isinstance(first, np.ndarray) and first.ndim == 2 and first.dtype == np.float64
        )
        return Checked(plan.names, rows, tensors, first if is_matrix else None, params=_defaults(plan))  # type: ignore[arg-type]
    columns = {column.name: _random_column(generator, column, rows) for column in plan.columns}
    matrix = None
    if plan.is_numeric:
        matrix = np.column_stack([np.asarray(values, dtype=np.float64) for values in columns.values()])
    return Checked(plan.names, rows, columns, matrix, params=_defaults(plan))


def takes_missing(plan: Plan, predict: Callable[[Checked], NDArray[Any]]) -> Plan:
    """Ask the model which of its columns may be empty, and return the plan that says so.

    A model that raises without a value, or answers NaN, cannot do without it. Where no row at all can be predicted
    the plan is left as it is.
    """
    example = make_example(plan, 1)
    try:
        predict(example)
    except Exception:  # noqa: BLE001 - whatever the model raises on made-up texts
        return plan
    if plan.tensors:
        tensors = [
            msgspec.structs.replace(one, takes_missing=_survives(predict, _without(example, [one.name])))
            if one.dtype.startswith("float")
            else one
            for one in plan.tensors
        ]
        return msgspec.structs.replace(plan, tensors=tuple(tensors))
    asked = [column.name for column in plan.columns if column.type in FLOATS or not column.required]
    if not asked or _survives(predict, _without(example, asked)):
        return plan
    one_by_one = len(asked) <= _MAX_PROBED
    columns = [
        msgspec.structs.replace(
            column, takes_missing=one_by_one and _survives(predict, _without(example, [column.name]))
        )
        if column.name in asked
        else column
        for column in plan.columns
    ]
    return msgspec.structs.replace(plan, columns=tuple(columns))


def _survives(predict: Callable[[Checked], NDArray[Any]], checked: Checked) -> bool:
    try:
        found = predict(checked)
    except Exception:  # noqa: BLE001 - whatever the model raises: it needs the value
        return False
    return found.dtype.kind != "f" or not bool(np.isnan(found).any())


def _without(example: Checked, names: list[str]) -> Checked:
    columns: dict[str, Values] = {}
    for name, values in example.columns.items():
        if name not in names:
            columns[name] = values
        elif isinstance(values, np.ndarray):
            columns[name] = np.full(
                values.shape, np.nan, dtype=values.dtype if values.dtype.kind == "f" else np.float64
            )
        else:
            columns[name] = [None] * len(values)
    if example.matrix is None:
        return Checked(example.names, example.rows, columns, params=example.params)
    arrays = [np.asarray(columns[name]) for name in example.names]
    matrix = arrays[0] if arrays[0].ndim == 2 else np.column_stack(arrays)
    return Checked(example.names, example.rows, columns, matrix, params=example.params)


class _Dice:
    """Random numbers from Python's generator: numpy's would cost every server 2 MB of memory."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - rows to try a model with, no secrets

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return numbers around 0."""
        return np.array([self._random.gauss(0, 1) for _ in range(prod(shape))]).reshape(shape)

    def integers(self, stop: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return whole numbers from 0 up to ``stop``, excluded."""
        return np.array([self._random.randrange(stop) for _ in range(prod(shape))], dtype=np.int64).reshape(shape)


def _random_column(generator: _Dice, column: Column, rows: int) -> Values:
    if column.type in FLOATS:
        return generator.normal((rows,))
    if column.is_number:
        return generator.integers(5, (rows,))
    if column.type == "boolean":
        return generator.integers(2, (rows,)).astype(bool)
    if column.type == "datetime":
        return np.array(["2020-01-01"] * rows, dtype="datetime64[us]")
    if column.categories:
        texts = sorted(column.categories)
        return [texts[place] for place in generator.integers(len(texts), (rows,))]
    return [_value(column.nested or DataType(kind=column.type)) for _ in range(rows)]


def _value(data_type: DataType) -> object:
    if data_type.kind == "array" and data_type.items is not None:
        return [_value(data_type.items)]
    if data_type.kind == "object":
        return {name: _value(one.type) for name, one in data_type.properties.items()}
    plain = {"binary": b"", "map": {}, "boolean": False, "long": 0, "integer": 0, "double": 0.0, "float": 0.0}
    return plain.get(data_type.kind, "")


def _random_tensor(generator: _Dice, tensor: Tensor, rows: int) -> NDArray[Any]:
    shape = (rows, *(_OPEN_SIZE if size == -1 else size for size in (tensor.shape or (-1, -1))[1:]))
    if tensor.dtype == "str":
        return np.full(shape, "", dtype=object)
    if tensor.dtype.startswith("float"):
        return generator.normal(shape).astype(tensor.dtype)
    return generator.integers(2, shape).astype(tensor.dtype)


def _defaults(plan: Plan) -> dict[str, object]:
    return {param.name: param.default for param in plan.params}
