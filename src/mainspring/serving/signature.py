"""From the signature in an MLmodel file to a plan: MLflow's columns, tensors and parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np

from mainspring.core import Refused
from mainspring.serving.mlmodel import Signature
from mainspring.serving.plan import (
    INPUT,
    Column,
    ColumnType,
    DataType,
    Param,
    Plan,
    Property,
    Tensor,
    make_plan,
    tensor_plan,
)

_TYPES = frozenset(get_args(ColumnType))
_SCALARS = frozenset({"string", "double", "float", "long", "integer", "boolean", "datetime", "binary"})
_MAX_DEPTH = 32
_MAX_COLUMNS = 100_000


def compile_signature(signature: Signature | None, model: str) -> Plan | None:
    """Compile a signature; return nothing if the model has none for its inputs, refuse one that is not MLflow's."""
    if signature is None or not signature.inputs:
        return None
    try:
        entries = json.loads(signature.inputs)
        params = [_param(entry) for entry in json.loads(signature.params or "[]") or []]
        if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_COLUMNS:
            raise Refused(f"The input signature of model {model} is empty.", hint=_HINT)
        kinds = {entry.get("type") == "tensor" for entry in entries}
        plan = _tensors(entries, params) if kinds == {True} else _columns(entries, params)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = str(error).strip("'\"")[:100]
        raise Refused(f"The signature of model {model} cannot be read: {what}.", hint=_HINT) from error
    if len(plan.name_set) != len(plan.names):
        raise Refused(f"The input signature of model {model} names a column twice.", hint=_HINT)
    return plan


def _columns(entries: Sequence[dict[str, Any]], params: list[Param]) -> Plan:
    has_names = all(isinstance(entry.get("name"), str) for entry in entries)
    if not has_names and any("name" in entry for entry in entries):
        raise ValueError("some columns have names and some have none")
    columns = []
    for place, entry in enumerate(entries):
        data_type = _data_type(entry)
        columns.append(
            Column(
                name=entry["name"] if has_names else str(place),
                type=data_type.kind,
                required=bool(entry.get("required", True)),
                nested=data_type if data_type.kind not in _SCALARS else None,
            )
        )
    return make_plan(columns, params, has_names=has_names)


def _tensors(entries: Sequence[dict[str, Any]], params: list[Param]) -> Plan:
    tensors = []
    for entry in entries:
        spec = entry["tensor-spec"]
        shape = tuple(int(size) for size in spec["shape"])
        if not shape or any(size < -1 for size in shape):
            raise ValueError(f"a tensor has the shape {list(shape)[:8]}")
        tensors.append(Tensor(name=str(entry.get("name", INPUT)), dtype=_dtype(spec["dtype"]), shape=(-1, *shape[1:])))
    return tensor_plan(tensors, params)


def _dtype(text: str) -> str:
    """Return numpy's name of a dtype; texts and objects are ``str``."""
    dtype = np.dtype(text)
    if dtype.kind in "USO":
        return "str"
    if dtype.kind not in "biuf":
        raise ValueError(f"a tensor has the dtype {str(text)[:40]}")
    return dtype.name


def _param(entry: dict[str, Any]) -> Param:
    shape = entry.get("shape")
    return Param(
        name=str(entry["name"]),
        type=_data_type(entry).kind,
        default=entry.get("default"),
        shape=None if shape is None else tuple(int(size) for size in shape),
    )


def _data_type(entry: dict[str, Any], depth: int = 0) -> DataType:
    kind = entry["type"]
    if depth > _MAX_DEPTH:
        raise ValueError("its types are nested too deeply")
    if kind == "array":
        return DataType(kind="array", items=_data_type(entry["items"], depth + 1))
    if kind == "map":
        return DataType(kind="map", items=_data_type(entry["values"], depth + 1))
    if kind == "object":
        properties = {
            str(name): Property(type=_data_type(value, depth + 1), required=bool(value.get("required", True)))
            for name, value in entry["properties"].items()
        }
        return DataType(kind="object", properties=properties)
    if kind not in _TYPES:
        raise ValueError(f"type {str(kind)[:40]!r} is not served")
    return DataType(kind=cast("ColumnType", kind))


_HINT = "Log the model again with signature=infer_signature(…)."
