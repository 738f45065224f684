"""Rows and columns of a request, checked against a plan: every problem is collected, with its column, row and rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mainspring.serving.faults import MAX_PROBLEMS, BadRequest, show
from mainspring.serving.plan import FLOATS, INTEGERS, Column, Plan

Columns: TypeAlias = dict[str, list[object]]
"""A request as it was parsed: lists of JSON values by column name, all of one length."""
Checked: TypeAlias = dict[str, "list[object] | NDArray[np.float64]"]
"""A request that keeps the plan: float64 arrays for numbers (NaN = missing), lists for everything else."""

_NUMBERS = frozenset({int, float, type(None)})
_WORDS = {"string": "a string", "boolean": "a boolean", "long": "a whole number", "integer": "a whole number"}


def check(plan: Plan, columns: Columns, rows: int) -> Checked:
    """Return the columns the model gets, in the plan's order; raise `BadRequest` with all problems."""
    problems = [f"column {name!r} is not in the signature" for name in map(_short, columns.keys() - plan.by_name)]
    problems.sort()
    if rows == 0:
        problems.append("the request has no rows")
    checked: Checked = {}
    plain: dict[str, list[object]] = {}
    for column in plan.columns:
        values = columns.get(column.name)
        if values is None:
            if column.required:
                problems.append(f"column {column.name!r} is missing")
            values = [None] * rows if not column.required else []
        elif len(values) != rows:
            problems.append(f"column {column.name!r} has {len(values)} rows, expected {rows}")
        elif column.type in FLOATS and set(map(type, values)) <= _NUMBERS:
            plain[column.name] = values
        checked[column.name] = values
    checked.update(_convert_together(plain))
    for name, column_values in checked.items():
        if isinstance(column_values, list):
            checked[name] = _check_column(plan.by_name[name], column_values, problems)
    if problems:
        raise BadRequest(problems)
    return checked


def _convert_together(plain: dict[str, list[object]]) -> Checked:
    """Convert all float columns at once, for many small conversions are slow; convert none if one has a fault."""
    try:
        matrix = np.array(list(plain.values()), dtype=np.float64)
    except OverflowError:
        return {}
    if np.isinf(matrix).any():
        return {}
    return dict(zip(plain, matrix, strict=True))


def _check_column(column: Column, values: list[object], problems: list[str]) -> list[object] | NDArray[np.float64]:
    kinds = set(map(type, values))
    if column.is_number:
        return _check_numbers(column, values, kinds, problems)
    wanted = str if column.type == "string" else bool
    if kinds <= {wanted} or (column.nullable and kinds <= {wanted, type(None)}):
        return values
    for row, value in enumerate(values):
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        if missing and not column.nullable:
            problems.append(f"column {column.name!r}: expected {_WORDS[column.type]}, got null in row {row}")
        elif not missing and type(value) is not wanted:
            problems.append(f"column {column.name!r}: expected {_WORDS[column.type]}, got {show(value)} in row {row}")
        if len(problems) > MAX_PROBLEMS:
            break
    return [None if isinstance(value, float) else value for value in values]


def _check_numbers(column: Column, values: list[object], kinds: set[type], problems: list[str]) -> NDArray[np.float64]:
    if kinds <= _NUMBERS:
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            array = None
        if array is not None and _is_plain(column, array, kinds):
            return array
    for row, value in enumerate(values):
        problem = _number_problem(column, value)
        if problem:
            problems.append(f"column {column.name!r}: {problem} in row {row}")
            if len(problems) > MAX_PROBLEMS:
                break
    numbers = [
        value if type(value) in (int, float) and not _number_problem(column, value) else None for value in values
    ]
    return np.array(numbers, dtype=np.float64)


def _is_plain(column: Column, array: NDArray[np.float64], kinds: set[type]) -> bool:
    """Say whether a converted column needs no closer look."""
    if column.type in INTEGERS:
        return kinds <= {int} and bool(np.all(np.abs(array) < 2.0**31))
    return not np.isinf(array).any()


def _number_problem(column: Column, value: object) -> str:
    """Return what is wrong with one value of a numeric column, or nothing."""
    whole = column.type in INTEGERS
    wanted = "a whole number" if whole else "a number"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "" if column.nullable else f"expected {wanted}, got {'null' if value is None else 'NaN'}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"expected {wanted}, got {show(value)}"
    if isinstance(value, float) and math.isinf(value):
        return f"expected {wanted}, got an infinite number"
    if whole and isinstance(value, float) and not value.is_integer():
        return f"expected {wanted}, got {show(value)}"
    low, high = INTEGERS.get(column.type, (-(2**1023), 2**1023))
    if not low <= value <= high:
        return f"{show(value)} is out of the range of {column.type}"
    return ""


def rows_to_columns(rows: Sequence[object], plan: Plan) -> Columns:
    """Turn rows (all objects, or all lists in the signature's order) into columns."""
    if rows and all(type(row) is dict for row in rows):
        return _from_objects(rows, plan)  # type: ignore[arg-type]
    if rows and all(type(row) is list for row in rows):
        return matrix_to_columns(rows, plan.names)  # type: ignore[arg-type]
    if rows and len(plan.names) == 1 and not any(type(row) in (dict, list) for row in rows):
        return {plan.names[0]: list(rows)}
    if not rows:
        raise BadRequest("the request has no rows")
    raise BadRequest("rows must be all objects (by column name) or all lists (in the signature's order)")


def matrix_to_columns(rows: Sequence[list[object]], names: Iterable[str]) -> Columns:
    """Turn rows of equal length into columns; name the rows that are ragged."""
    names = list(names)
    problems = [
        f"row {number} has {len(row)} values, expected {len(names)}"
        for number, row in enumerate(rows)
        if len(row) != len(names)
    ]
    if problems:
        raise BadRequest(problems)
    if not rows:
        raise BadRequest("the request has no rows")
    return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def _from_objects(rows: Sequence[dict[str, object]], plan: Plan) -> Columns:
    first = rows[0].keys()
    if all(row.keys() == first for row in rows):
        return {name: [row[name] for row in rows] for name in first}
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    problems = []
    for name in names:
        column = plan.by_name.get(name)
        if column is not None and column.required:
            problems += [f"column {name!r} is missing in row {n}" for n, row in enumerate(rows) if name not in row]
    if problems:
        raise BadRequest(problems)
    return {name: [row.get(name) for row in rows] for name in names}


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."
