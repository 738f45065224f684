"""A request, checked against a plan: every problem is collected, with its column, row and rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mainspring.serving.checked import NO_PARAMS, Checked, can_join, concatenate
from mainspring.serving.faults import MAX_PROBLEMS, BadRequest, show
from mainspring.serving.plan import Column, DataType, Param, Plan
from mainspring.serving.tensors import check_tensors, stack_columns
from mainspring.serving.values import MAX_FLOAT, MLFLOW, STRICT, Rules, Values, check_values

Columns: TypeAlias = Mapping[str, "Values"]
"""A request as it was parsed: lists of JSON values, or arrays, by column (or tensor) name, all of one length."""

_NUMBERS = frozenset({int, float, type(None)})
_WHOLE_LIMIT = 2.0**31

__all__ = [
    "MLFLOW",
    "STRICT",
    "Checked",
    "Columns",
    "Rules",
    "can_join",
    "check",
    "check_params",
    "check_rows",
    "concatenate",
    "fits",
    "matrix_to_columns",
    "rows_to_columns",
]


def check(
    plan: Plan,
    columns: Columns,
    rows: int,
    rules: Rules = STRICT,
    params: Mapping[str, object] = NO_PARAMS,
) -> Checked:
    """Return what the model gets, in the plan's order; raise `BadRequest` with all problems.

    ``columns`` are the columns, or the tensors, by name; ``params`` is what `check_params` returned.
    """
    if plan.tensors:
        tensors = check_tensors(plan, stack_columns(plan, columns))
        return _of_tensors(plan, tensors, params)
    if plan.is_numeric and rows and columns.keys() == plan.name_set:
        matrix = _to_matrix(plan, [columns[name] for name in plan.names], rows)
        if matrix is not None:
            return Checked(plan.names, rows, matrix=matrix, params=params)
    return _check_columns(plan, columns, rows, rules, params)


def check_rows(
    plan: Plan,
    rows: Sequence[Any] | NDArray[Any],
    rules: Rules = STRICT,
    params: Mapping[str, object] = NO_PARAMS,
) -> Checked:
    """Check rows: a matrix or lists in the signature's order, objects by column name, or nested lists for a tensor."""
    if plan.tensors and len(plan.tensors) == 1 and not (len(rows) and isinstance(rows[0], dict)):
        return _of_tensors(plan, check_tensors(plan, {plan.tensors[0].name: rows}), params)
    if plan.is_numeric and len(rows):
        matrix = _rows_to_matrix(plan, _by_place(plan, rows))
        if matrix is not None:
            return Checked(plan.names, len(rows), matrix=matrix, params=params)
    columns = rows_to_columns(rows.tolist() if isinstance(rows, np.ndarray) else rows, plan)
    return check(plan, columns, len(rows), rules, params)


def check_params(plan: Plan, given: Mapping[str, object] | None, rules: Rules = STRICT) -> Mapping[str, object]:
    """Return the parameters of a call with their defaults; raise `BadRequest` for what the model does not take."""
    if not plan.params:
        if given and not rules.drops_extra:
            raise BadRequest(f"the model takes no parameters, got {', '.join(show(name) for name in list(given)[:5])}")
        return NO_PARAMS
    known = {param.name for param in plan.params}
    problems = [f"parameter {show(name)} is not in the signature" for name in given or () if name not in known]
    params = {param.name: _check_param(param, (given or {}).get(param.name), problems) for param in plan.params}
    if problems and not (rules.drops_extra and all("not in the signature" in problem for problem in problems)):
        raise BadRequest(problems)
    return params


def rows_to_columns(rows: Sequence[object], plan: Plan) -> dict[str, list[Any]]:
    """Turn rows, objects or lists in the plan's order, into columns; other shapes are a `BadRequest`."""
    kinds = set(map(type, rows))
    if kinds == {dict}:
        return _from_objects(rows, plan)  # type: ignore[arg-type]
    if kinds == {list}:
        return matrix_to_columns(rows, plan.names)  # type: ignore[arg-type]
    if not rows:
        raise BadRequest("the request has no rows")
    if len(plan.names) == 1 and not kinds & {dict, list}:
        return {plan.names[0]: list(rows)}
    raise BadRequest("rows must be all objects (by column name) or all lists (in the signature's order)")


def matrix_to_columns(rows: Sequence[list[object]], names: Iterable[str]) -> dict[str, list[Any]]:
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


def _check_columns(plan: Plan, columns: Columns, rows: int, rules: Rules, params: Mapping[str, object]) -> Checked:
    """Check column by column, the slow way, and say everything that is wrong."""
    problems: list[str] = []
    if not rules.drops_extra:
        extra = sorted(map(_short, columns.keys() - plan.name_set))
        problems = [f"column {name!r} is not in the signature" for name in extra]
    if rows == 0:
        problems.append("the request has no rows")
    checked: dict[str, Values] = {}
    for column in plan.columns:
        checked[column.name] = _check_column(column, columns.get(column.name), rows, rules, problems)
    notes = _unseen(plan, checked, rules, problems) if plan.learned else []
    if problems:
        raise BadRequest(problems)
    matrix = None
    if plan.is_numeric and not _has_huge(plan, checked):
        matrix = np.column_stack([np.asarray(checked[name], dtype=np.float64) for name in plan.names])
        matrix = _round_singles(plan, matrix)
    return Checked(plan.names, rows, checked, matrix, notes=notes, params=params)


def _check_column(column: Column, values: Values | None, rows: int, rules: Rules, problems: list[str]) -> Values:
    if values is None:
        if column.required or not column.takes_missing:
            problems.append(f"column {_short(column.name)!r} is missing")
            return []
        return [None] * rows if not column.is_number else np.full(rows, np.nan)
    if len(values) != rows:
        problems.append(f"column {_short(column.name)!r} has {len(values)} rows, expected {rows}")
        return []
    if len(problems) > MAX_PROBLEMS:
        return []
    return check_values(column, values.tolist() if isinstance(values, np.ndarray) else values, rules, problems)


def _unseen(plan: Plan, checked: dict[str, Values], rules: Rules, problems: list[str]) -> list[str]:
    """Name the texts the model has not learned; refuse them where it cannot predict them."""
    notes: list[str] = []
    for column in plan.learned:
        texts = {text for text in checked[column.name] if isinstance(text, str)}
        strange = sorted(texts - (column.categories or frozenset()))
        if strange:
            more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
            text = f"column {_short(column.name)!r}: unseen category {', '.join(map(show, strange[:3]))}{more}"
            (problems if column.refuses_unseen or rules.refuses_unseen else notes).append(text)
    return notes[:MAX_PROBLEMS]


def _to_matrix(plan: Plan, lists: list[Values], rows: int) -> NDArray[np.float64] | None:
    """Convert columns of plain numbers at once; return nothing if one of them needs a closer look."""
    containers = set(map(type, lists))
    if rows == 1 and containers == {list} and set(map(len, lists)) == {1}:
        return _rows_to_matrix(plan, [[values[0] for values in lists]])
    if containers == {list}:
        kinds = set(map(type, chain.from_iterable(lists)))
    elif containers == {np.ndarray}:
        kinds = {float} if all(values.dtype.kind == "f" for values in lists) else {object}  # type: ignore[union-attr]
    else:
        return None
    matrix = _convert(lists) if kinds <= _NUMBERS else None
    if matrix is None or matrix.shape != (len(lists), rows) or not fits(plan, matrix.T, kinds):
        return None
    return _round_singles(plan, np.ascontiguousarray(matrix.T))


def _rows_to_matrix(plan: Plan, rows: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64] | None:
    """Convert rows of plain numbers at once; return nothing if one of them needs a closer look."""
    kinds: set[type]
    if isinstance(rows, np.ndarray):
        # Whole numbers that need more bits than a double has are looked at one by one.
        is_plain = rows.dtype.kind == "f" or (rows.dtype.kind in "iu" and rows.dtype.itemsize < 8)
        kinds = {float if rows.dtype.kind == "f" else int} if is_plain else {object}
    elif set(map(type, rows)) <= {list, tuple}:
        kinds = set(map(type, chain.from_iterable(rows)))
    else:
        return None
    matrix = _convert(rows) if kinds <= _NUMBERS else None
    if matrix is None or matrix.shape != (len(rows), len(plan.names)) or not fits(plan, matrix, kinds):
        return None
    return _round_singles(plan, matrix)


def _by_place(plan: Plan, rows: Sequence[Any] | NDArray[Any]) -> Sequence[Any] | NDArray[Any]:
    """Return objects that have exactly the plan's columns as rows in its order; anything else as it is."""
    if not isinstance(rows[0], dict) or len(plan.names) == 1:
        return rows
    names = plan.name_set
    if all(isinstance(row, dict) and row.keys() == names for row in rows):
        return list(map(plan.values_of, rows))
    return rows


def _convert(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64] | None:
    """Make a matrix of lists of numbers; nothing if they are ragged or too large."""
    try:
        return np.array(values, dtype=np.float64)
    except (ValueError, OverflowError):
        return None


def fits(plan: Plan, matrix: NDArray[np.float64], kinds: Set[type] = frozenset({float})) -> bool:
    """Say whether a matrix of shape (rows, columns) keeps every rule of the plan."""
    if not np.isfinite(matrix).all():
        if np.isinf(matrix).any() or (plan.needed.size and np.isnan(matrix[:, plan.needed]).any()):
            return False
        if plan.whole.size and np.isnan(matrix[:, plan.whole]).any():
            return False
    if plan.whole.size:
        whole = matrix[:, plan.whole]
        if (np.abs(whole) >= _WHOLE_LIMIT).any() or (kinds != {int} and (whole != np.floor(whole)).any()):
            return False
    return not plan.singles.size or not bool((np.abs(matrix[:, plan.singles]) > MAX_FLOAT).any())


def _round_singles(plan: Plan, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give columns of single precision the values they have in it: 0.1 is 0.10000000149011612 to such a model."""
    if plan.singles.size:
        matrix[:, plan.singles] = matrix[:, plan.singles].astype(np.float32)
    return matrix


def _has_huge(plan: Plan, checked: Mapping[str, Values]) -> bool:
    """Say whether a whole number is too large for float64 to hold exactly."""
    for place in plan.whole:
        values = checked[plan.names[place]]
        if isinstance(values, np.ndarray) and values.dtype.kind == "i" and bool((np.abs(values) > 2**53).any()):
            return True
    return False


def _of_tensors(plan: Plan, tensors: dict[str, NDArray[Any]], params: Mapping[str, object]) -> Checked:
    first = next(iter(tensors.values()))
    is_matrix = len(tensors) == 1 and first.ndim == 2 and first.dtype == np.float64
    return Checked(
        plan.names, len(first), None if is_matrix else dict(tensors), first if is_matrix else None, params=params
    )


def _check_param(param: Param, value: object, problems: list[str]) -> object:
    if value is None:
        return param.default
    is_list = param.shape is not None
    if is_list != isinstance(value, list):
        problems.append(f"parameter {show(param.name)} must be {'a list' if is_list else 'one value'}")
        return None
    found: list[str] = []
    column = Column(name=param.name, type=param.type, nested=DataType(kind=param.type))
    values = check_values(column, value if isinstance(value, list) else [value], STRICT, found)
    problems += [problem.replace("column ", "parameter ", 1) for problem in found]
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return plain if is_list else next(iter(plain), None)


def _from_objects(rows: Sequence[dict[str, object]], plan: Plan) -> dict[str, list[Any]]:
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
