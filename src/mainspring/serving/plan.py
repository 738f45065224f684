"""What a request must look like: named columns, or tensors, and parameters; compiled once when a model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from operator import itemgetter
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

ColumnType: TypeAlias = Literal[
    "string",
    "double",
    "float",
    "long",
    "integer",
    "boolean",
    "datetime",
    "binary",
    "array",
    "object",
    "map",
    "any",
]
FLOATS = frozenset({"double", "float"})
INTEGERS = {"long": (-(2**63), 2**63 - 1), "integer": (-(2**31), 2**31 - 1)}
NESTED = frozenset({"array", "object", "map", "any"})

INPUT = "input"
"""The name of the one tensor of models that give it none."""


class DataType(msgspec.Struct, frozen=True, kw_only=True):
    """The type of a value; arrays and maps have ``items``, objects have ``properties``."""

    kind: ColumnType
    items: DataType | None = None
    properties: dict[str, Property] = {}


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """One field of an object."""

    type: DataType
    required: bool = True


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One named input of a model."""

    name: str
    type: ColumnType
    required: bool = True
    nested: DataType | None = None
    """What is inside, for arrays, objects and maps."""
    takes_missing: bool = True
    """Whether the model can predict a row without this value; found by asking it."""
    categories: frozenset[str] | None = None
    """The texts the model has learned, where it says so."""
    refuses_unseen: bool = False
    """Whether the model cannot predict a text it has not learned."""

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing: in floating-point and optional columns, if the model can do without."""
        return self.takes_missing and (self.type in FLOATS or not self.required)

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers (a boolean is not)."""
        return self.type in FLOATS or self.type in INTEGERS


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of a model: its first dimension is the rows, -1 is any size, no shape at all is any shape."""

    name: str
    dtype: str
    """A numpy name: ``float64``, ``float32``, ``int64``, ``bool``, ``str``, …"""
    shape: tuple[int, ...] = ()
    takes_missing: bool = True


class Param(msgspec.Struct, frozen=True, kw_only=True):
    """One inference parameter of a model; a shape of (-1,) is a list."""

    name: str
    type: ColumnType
    default: object = None
    shape: tuple[int, ...] | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The inputs of a model in the order of its signature: either columns or tensors."""

    columns: tuple[Column, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    params: tuple[Param, ...] = ()
    has_names: bool = True
    """Whether the model named its columns; else they are called by their place, "0", "1", …"""
    is_open: bool = False
    """Whether the model said nothing about its inputs: it gets whatever was sent (`mainspring.serving.unsigned`)."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, or of the tensors."""
        return tuple(one.name for one in (self.columns or self.tensors))

    @cached_property
    def name_set(self) -> frozenset[str]:
        """The names, for a quick comparison."""
        return frozenset(self.names)

    @cached_property
    def names_json(self) -> bytes:
        """The names as JSON."""
        return msgspec.json.encode(self.names)

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The columns by name; empty for tensors."""
        return {column.name: column for column in self.columns}

    @cached_property
    def is_numeric(self) -> bool:
        """Whether every column is a number, so that a bare matrix can be taken."""
        return bool(self.columns) and all(column.is_number for column in self.columns)

    @cached_property
    def whole(self) -> NDArray[np.intp]:
        """The places of the columns with whole numbers."""
        return _places(column.type in INTEGERS for column in self.columns)

    @cached_property
    def singles(self) -> NDArray[np.intp]:
        """The places of the columns of single precision."""
        return _places(column.type == "float" for column in self.columns)

    @cached_property
    def needed(self) -> NDArray[np.intp]:
        """The places of the columns in which no value may be missing."""
        return _places(not column.nullable for column in self.columns)

    @cached_property
    def values_of(self) -> Callable[[Mapping[str, object]], tuple[object, ...]]:
        """What takes a row's values, in the order of the columns, out of an object that has them all."""
        return itemgetter(*self.names)

    @cached_property
    def learned(self) -> tuple[Column, ...]:
        """The columns whose categories are known."""
        return tuple(column for column in self.columns if column.categories is not None)


class InputDescription(msgspec.Struct, frozen=True, kw_only=True):
    """An input in the words of the Open Inference Protocol."""

    name: str
    datatype: str
    shape: list[int]


def make_plan(columns: Iterable[Column], params: Iterable[Param] = (), *, has_names: bool = True) -> Plan:
    """Make a plan of columns."""
    return Plan(columns=tuple(columns), params=tuple(params), has_names=has_names)


def tensor_plan(tensors: Iterable[Tensor], params: Iterable[Param] = ()) -> Plan:
    """Make a plan of tensors."""
    return Plan(tensors=tuple(tensors), params=tuple(params))


def matrix_plan(width: int | None, params: Iterable[Param] = ()) -> Plan:
    """Make the plan of a model that only knows how many numbers a row has, or not even that (any shape)."""
    shape = () if width is None else (-1, width)
    return tensor_plan([Tensor(name=INPUT, dtype="float64", shape=shape)], params)


def open_plan() -> Plan:
    """Make the plan of a model that takes whatever is sent."""
    return Plan(tensors=(Tensor(name=INPUT, dtype="float64"),), is_open=True)


def describe_inputs(plan: Plan) -> list[InputDescription]:
    """Describe a plan's inputs: one tensor per column, or its tensors."""
    columns = [
        InputDescription(name=column.name, datatype=_DATATYPES.get(column.type, "BYTES"), shape=[-1])
        for column in plan.columns
    ]
    tensors = [
        InputDescription(
            name=tensor.name, datatype=_TENSOR_DATATYPES.get(tensor.dtype, "BYTES"), shape=list(tensor.shape or (-1,))
        )
        for tensor in plan.tensors
    ]
    return columns or tensors


def _places(marks: Iterable[bool]) -> NDArray[np.intp]:
    return np.flatnonzero(np.fromiter(marks, dtype=bool))


_DATATYPES = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}
_TENSOR_DATATYPES = {
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "bool": "BOOL",
    **{f"{sign}{bits}": f"{sign.upper()}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64)},
}
