"""The values of one column, checked one by one: what is wrong with each is said with its row and the rule."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.serving.faults import MAX_PROBLEMS, show
from mainspring.serving.plan import FLOATS, INTEGERS, NESTED, Column, DataType

Values: TypeAlias = "list[Any] | NDArray[Any]"
"""One column: a list of JSON values, or an array."""

MAX_FLOAT = float(np.finfo(np.float32).max)
_WORDS = {
    "string": "a string",
    "boolean": "a boolean",
    "datetime": "a time in ISO 8601",
    "binary": "bytes in base64",
    "array": "a list",
    "object": "an object",
    "map": "an object",
    **dict.fromkeys(FLOATS, "a number"),
    **dict.fromkeys(INTEGERS, "a whole number"),
}
_NUMBERS = frozenset({int, float, type(None)})


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What a protocol lets a client do beyond the strict reading."""

    numeric_strings: bool = False
    """Take "1.5" for a floating-point number."""
    booleans_as_numbers: bool = False
    """Take true for 1 and false for 0."""
    drops_extra: bool = False
    """Leave out columns that are not in the signature instead of refusing them."""
    refuses_unseen: bool = False
    """Refuse texts the model has not learned; else they are only noted, unless the model cannot predict them."""


STRICT = Rules()
MLFLOW = Rules(numeric_strings=True, drops_extra=True)
"""What MLflow's scoring protocol takes: numeric strings for doubles, and more columns than are needed."""


def check_values(column: Column, values: list[Any], rules: Rules, problems: list[str]) -> Values:
    """Return a column as the model gets it; append to ``problems`` what is wrong with it."""
    if column.is_number:
        return _check_numbers(column, values, rules, problems)
    if column.type in ("string", "boolean"):
        wanted = str if column.type == "string" else bool
        kinds = set(map(type, values))
        if kinds == {wanted}:
            return values if wanted is str else np.array(values, dtype=bool)
    checked = _check_each(column, values, problems)
    if column.type == "datetime" and not problems:
        return np.array(checked, dtype="datetime64[us]")
    return checked


def _check_each(column: Column, values: list[Any], problems: list[str]) -> list[Any]:
    """Convert value by value; what cannot be converted becomes None beside its problem."""
    checked: list[Any] = []
    data_type = column.nested or DataType(kind=column.type)
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and math.isnan(value) and column.type not in NESTED):
            if not column.nullable and column.type != "any":
                problems.append(f"column {_name(column)}: expected {_WORDS[column.type]}, got null in row {row}")
            checked.append(None)
        else:
            converted, problem = _convert(data_type, value)
            if problem:
                problems.append(f"column {_name(column)}: {problem} in row {row}")
            checked.append(converted)
        if len(problems) > MAX_PROBLEMS:
            break
    return checked


def _convert(data_type: DataType, value: object) -> tuple[object, str]:
    """Return a value as the model gets it, and what is wrong with it."""
    kind = data_type.kind
    if kind in NESTED:
        return _convert_nested(data_type, value)
    if kind in FLOATS or kind in INTEGERS:
        return value, number_problem(Column(name="", type=kind), value)
    if kind in _CONVERTERS and isinstance(value, str):
        try:
            return _CONVERTERS[kind](value), ""
        except (ValueError, OverflowError, binascii.Error):
            return None, f"expected {_WORDS[kind]}, got {show(value)}"
    wanted: type = {"string": str, "boolean": bool, "binary": bytes}.get(kind, datetime)
    if type(value) is wanted:
        return value, ""
    return None, f"expected {_WORDS[kind]}, got {show(value)}"


def _convert_nested(data_type: DataType, value: object) -> tuple[object, str]:
    if data_type.kind == "any":
        return value, ""
    if data_type.kind == "array" and isinstance(value, list | np.ndarray) and data_type.items is not None:
        pairs = [_convert(data_type.items, one) for one in value]
        return [one for one, _ in pairs], _first(f"{problem} at place {n}" for n, (_, problem) in _bad(pairs))
    if data_type.kind == "map" and isinstance(value, dict) and data_type.items is not None:
        pairs = [_convert(data_type.items, one) for one in value.values()]
        return dict(zip(value, (one for one, _ in pairs), strict=True)), _first(
            problem for _, (_, problem) in _bad(pairs)
        )
    if data_type.kind == "object" and isinstance(value, dict):
        return _convert_object(data_type, value)
    return None, f"expected {_WORDS[data_type.kind]}, got {show(value)}"


def _convert_object(data_type: DataType, value: dict[str, object]) -> tuple[object, str]:
    converted = {}
    for name, entry in data_type.properties.items():
        if value.get(name) is None:
            if entry.required:
                return None, f"the field {show(name)} is missing"
            continue
        converted[name], problem = _convert(entry.type, value[name])
        if problem:
            return None, f"field {show(name)}: {problem}"
    extra = next((name for name in value if name not in data_type.properties), None)
    return converted, "" if extra is None else f"the field {show(extra)} is not in the signature"


def _check_numbers(column: Column, values: list[Any], rules: Rules, problems: list[str]) -> NDArray[Any]:
    kinds = set(map(type, values))
    if kinds - _NUMBERS:
        values = [_as_number(column, value, rules) for value in values]
        kinds = set(map(type, values))
    if kinds <= _NUMBERS and (array := _as_array(column, values, kinds)) is not None:
        return array
    good: list[Any] = []
    for row, value in enumerate(values):
        problem = number_problem(column, value)
        if problem:
            problems.append(f"column {_name(column)}: {problem} in row {row}")
        good.append(None if problem else value)
        if len(problems) > MAX_PROBLEMS:
            break
    is_whole = column.type in INTEGERS and None not in good
    return np.array([int(value) for value in good] if is_whole else good, dtype=np.int64 if is_whole else np.float64)


def _as_array(column: Column, values: list[Any], kinds: set[type]) -> NDArray[Any] | None:
    """Convert a column at once; return nothing if it needs a closer look."""
    try:
        if column.type not in INTEGERS:
            floats = np.array(values, dtype=np.float64)
            missing = type(None) in kinds or bool(np.isnan(floats).any())
            limit = MAX_FLOAT if column.type == "float" else math.inf
            fits = not (np.abs(floats) > limit).any() and not np.isinf(floats).any()
            return floats if fits and (column.nullable or not missing) else None
        if kinds == {int}:
            whole = np.array(values, dtype=np.int64)
            low, high = INTEGERS[column.type]
            return whole if column.type == "long" or (low <= whole.min() and whole.max() <= high) else None
    except OverflowError:
        return None
    return None


def _as_number(column: Column, value: object, rules: Rules) -> object:
    """Take what the rules let pass for a number; leave anything else as it is, to be refused."""
    if type(value) is bool and rules.booleans_as_numbers:
        return int(value)
    if isinstance(value, str) and rules.numeric_strings and column.type in FLOATS:
        try:
            number = float(value)
        except ValueError:
            return value
        return number if math.isfinite(number) else value
    return value


def number_problem(column: Column, value: object) -> str:
    """Return what is wrong with one value of a numeric column, or nothing."""
    whole = column.type in INTEGERS
    wanted = _WORDS[column.type]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "" if column.nullable else f"expected {wanted}, got {'null' if value is None else 'NaN'}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected {wanted}, got {show(value)}"
    if isinstance(value, float) and math.isinf(value):
        return f"expected {wanted}, got an infinite number"
    if whole and isinstance(value, float) and not value.is_integer():
        return f"expected {wanted}, got {show(value)}"
    return "" if _is_in_range(column, value) else f"{show(value)} is out of the range of {column.type}"


def _is_in_range(column: Column, value: float) -> bool:
    if column.type in INTEGERS:
        low, high = INTEGERS[column.type]
        return low <= value <= high
    try:
        return column.type == "double" or abs(float(value)) <= MAX_FLOAT if math.isfinite(float(value)) else False
    except OverflowError:
        return False


def _read_time(text: str) -> datetime:
    """Read a time; one with an offset becomes UTC, the models get it without a zone."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_CONVERTERS: dict[str, Callable[[str], object]] = {"datetime": _read_time, "binary": _read_bytes}


def _bad(pairs: list[tuple[object, str]]) -> list[tuple[int, tuple[object, str]]]:
    return [(place, pair) for place, pair in enumerate(pairs) if pair[1]]


def _first(problems: Iterable[str]) -> str:
    return next(iter(problems), "")


def _name(column: Column) -> str:
    return repr(column.name if len(column.name) <= 60 else column.name[:57] + "...")
