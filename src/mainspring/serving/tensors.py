"""Tensors of a request, checked against a plan's names, dtypes and shapes; nothing is converted with a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.serving.faults import BadRequest, show
from mainspring.serving.plan import Plan, Tensor
from mainspring.serving.values import Values

_WORDS = {"str": "strings", "bool": "booleans"}
_MAX_DIMENSIONS = 16


def stack_columns(plan: Plan, given: Mapping[str, Values]) -> Mapping[str, Values]:
    """Return the tensors by their names.

    A model with one tensor takes it under any name, and takes columns of numbers for a matrix, in their order.
    """
    if given.keys() == plan.name_set or len(plan.tensors) != 1 or not given:
        return given
    tensor = plan.tensors[0]
    values = list(given.values())
    if len(values) == 1 and not (tensor.shape[1:] == (1,) and _is_flat(values[0])):
        return {tensor.name: values[0]}
    values = [one.reshape(-1) if isinstance(one, np.ndarray) and one.shape[1:] == (1,) else one for one in values]
    if len(tensor.shape) in (0, 2) and all(map(_is_flat, values)) and len({len(one) for one in values}) == 1:
        return {tensor.name: [list(row) for row in zip(*map(_plain, values), strict=True)]}
    return given


def check_tensors(plan: Plan, given: Mapping[str, Values | Sequence[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors in the plan's order and dtypes; raise `BadRequest` with everything that is wrong."""
    problems = [f"input {show(name)} is not in the signature" for name in sorted(given.keys() - plan.name_set)]
    tensors: dict[str, NDArray[Any]] = {}
    for tensor in plan.tensors:
        if tensor.name not in given:
            problems.append(f"input {show(tensor.name)} is missing")
            continue
        try:
            tensors[tensor.name] = _check_tensor(tensor, given[tensor.name])
        except BadRequest as error:
            problems += error.problems
    sizes = {len(array) for array in tensors.values()}
    if len(sizes) > 1:
        problems.append(f"the inputs have different numbers of rows: {sorted(sizes)[:5]}")
    if problems:
        raise BadRequest(problems)
    return tensors


def _check_tensor(tensor: Tensor, values: Values | Sequence[Any]) -> NDArray[Any]:
    array = values if isinstance(values, np.ndarray) else _to_array(tensor, values)
    _check_kind(tensor, array)
    if array.ndim == 0 or len(array) == 0:
        raise BadRequest("the request has no rows")
    array = _check_shape(tensor, array)
    if tensor.dtype == "str":
        return array.astype(object)
    return _convert(tensor, array)


def _to_array(tensor: Tensor, values: Sequence[Any]) -> NDArray[Any]:
    """Make an array of nested lists; None is NaN in a floating-point tensor."""
    kinds = _kinds(tensor, values, 0)
    if tensor.dtype == "str":
        if kinds - {str}:
            raise BadRequest(f"input {show(tensor.name)}: expected strings only")
        return np.array(values, dtype=object)
    allowed: set[Any] = {bool} if tensor.dtype == "bool" else {int, float}
    if tensor.dtype.startswith("float"):
        allowed.add(type(None))
    if kinds - allowed:
        wanted = _WORDS.get(tensor.dtype, "numbers")
        raise BadRequest(f"input {show(tensor.name)}: expected {wanted}, got {_first_of(values, allowed)}")
    try:
        has_fractions = float in kinds or type(None) in kinds
        return np.array(values, dtype=np.float64 if has_fractions else bool if kinds == {bool} else np.int64)
    except OverflowError as error:
        raise BadRequest(f"input {show(tensor.name)}: a number is out of the range of {tensor.dtype}") from error
    except ValueError as error:
        raise BadRequest(f"input {show(tensor.name)} is ragged: its lists have different lengths") from error


def _kinds(tensor: Tensor, values: object, depth: int) -> set[type]:
    """Return the types of the values inside nested lists."""
    if not isinstance(values, list | tuple):
        return {type(values)}
    if depth > _MAX_DIMENSIONS:
        raise BadRequest(f"input {show(tensor.name)} is nested too deeply")
    kinds = set(map(type, values))
    if list not in kinds:
        return kinds
    if kinds != {list}:
        raise BadRequest(f"input {show(tensor.name)} is ragged: it mixes lists and values")
    return set().union(*(_kinds(tensor, value, depth + 1) for value in values))


def _first_of(values: object, allowed: set[Any]) -> str:
    while isinstance(values, list | tuple):
        values = next((one for one in values if isinstance(one, list) or type(one) not in allowed), None)
        if isinstance(values, list) and not values:
            break
    return show(values)


def _check_kind(tensor: Tensor, array: NDArray[Any]) -> None:
    kind = array.dtype.kind
    wanted = "O" if tensor.dtype == "str" else "b" if tensor.dtype == "bool" else "fiu"
    if kind not in wanted and not (tensor.dtype == "str" and kind in "US"):
        words = _WORDS.get(tensor.dtype, "numbers")
        raise BadRequest(f"input {show(tensor.name)}: expected {words} ({tensor.dtype}), got {array.dtype.name[:20]}")


def _check_shape(tensor: Tensor, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in the tensor's shape; one row of a matrix may come without its outer list."""
    shape = tensor.shape
    fits = not shape or (
        array.ndim == len(shape)
        and all(size in (-1, actual) for size, actual in zip(shape[1:], array.shape[1:], strict=True))
    )
    if fits:
        return array
    if array.ndim == 1 and shape[1:] == (1,):
        return array.reshape(-1, 1)
    if array.ndim == 2 and len(shape) == 1 and array.shape[1] == 1:
        return array.reshape(-1)
    raise BadRequest(f"input {show(tensor.name)} has the shape {list(array.shape)[:8]}, expected {list(shape)[:8]}")


def _convert(tensor: Tensor, array: NDArray[Any]) -> NDArray[Any]:
    """Convert numbers to the tensor's dtype; refuse what would be lost."""
    dtype = np.dtype(tensor.dtype)
    name = show(tensor.name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        if np.isinf(array).any():
            raise BadRequest(f"input {name}: an infinite number")
        if dtype.kind != "f" or not tensor.takes_missing:
            raise BadRequest(f"input {name}: a value is missing (null or NaN), the model needs every one")
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.dtype.kind == "f" and (array != np.floor(array)).any():
            raise BadRequest(f"input {name}: expected whole numbers ({tensor.dtype}), got a fraction")
        if (
            array.min() < limits.min
            or (array >= float(limits.max) + 1 if array.dtype.kind == "f" else array > limits.max).any()
        ):
            raise BadRequest(f"input {name}: a number is out of the range of {tensor.dtype}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if dtype.kind == "f" and np.isinf(converted).any():
        raise BadRequest(f"input {name}: a number is out of the range of {tensor.dtype}")
    return converted


def _is_flat(values: Values) -> bool:
    if isinstance(values, np.ndarray):
        return values.ndim == 1
    return not any(isinstance(value, list) for value in values)


def _plain(values: Values) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values
