"""A model's signature, compiled once into what a request must look like."""

from __future__ import annotations

import json
from typing import Literal, TypeAlias, cast, get_args

import msgspec

from mainspring.core import Refused

ColumnType: TypeAlias = Literal["string", "double", "float", "long", "integer", "boolean"]
FLOATS = frozenset({"double", "float"})
INTEGERS = {"long": (-(2**63), 2**63 - 1), "integer": (-(2**31), 2**31 - 1)}


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One named input of a model."""

    name: str
    type: ColumnType
    required: bool = True

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing: always in floating-point columns, else where the column is optional."""
        return self.type in FLOATS or not self.required

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers (a boolean is not)."""
        return self.type in FLOATS or self.type in INTEGERS


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a model, in the order of its signature."""

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    by_name: dict[str, Column]

    @property
    def is_numeric(self) -> bool:
        """Whether every column is a number, so that a bare matrix can be taken."""
        return all(column.is_number for column in self.columns)


def make_plan(columns: list[Column]) -> Plan:
    """Compile columns into a plan."""
    return Plan(
        columns=tuple(columns),
        names=tuple(column.name for column in columns),
        by_name={column.name: column for column in columns},
    )


def compile_signature(inputs: str | None, model: str) -> Plan:
    """Compile the ``signature.inputs`` JSON of an MLmodel file; refuse what cannot be checked column by column."""
    if not inputs:
        raise Refused(f"Model {model} has no input signature.", hint="Log it with signature=…: requests are checked.")
    columns = []
    for number, entry in enumerate(json.loads(inputs)):
        kind, name = entry.get("type"), entry.get("name")
        if kind not in get_args(ColumnType) or not isinstance(name, str):
            raise Refused(
                f"Input {number} of model {model} is of type {str(kind)[:40]!r}, which this endpoint does not serve.",
                hint=f"Use named columns of type {', '.join(get_args(ColumnType))}.",
            )
        columns.append(Column(name=name, type=cast("ColumnType", kind), required=bool(entry.get("required", True))))
    if not columns or len({column.name for column in columns}) != len(columns):
        raise Refused(f"The input signature of model {model} is empty or names a column twice.")
    return make_plan(columns)
