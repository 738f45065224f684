"""Filters as the API takes them: predicates on the fields of a kind of thing, all of which have to hold."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import unquote_plus

import msgspec

from mainspring.core import InvalidInput, to_ms

_OPERATIONS = (
    "OPERATION_UNSPECIFIED", "EQUALS", "NOT_EQUALS", "GREATER_THAN", "GREATER_THAN_EQUALS", "LESS_THAN",
    "LESS_THAN_EQUALS", "IN", "IS_SUBSTRING",
)  # fmt: skip
"""By their numbers."""
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "EQUALS": operator.eq,
    "NOT_EQUALS": operator.ne,
    "GREATER_THAN": operator.gt,
    "GREATER_THAN_EQUALS": operator.ge,
    "LESS_THAN": operator.lt,
    "LESS_THAN_EQUALS": operator.le,
}

Item = TypeVar("Item")
Value = tuple[int, str]
"""What things are compared by: the milliseconds of a time, or a text; the other is empty."""


class Field(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """A field that a list can be filtered and sorted by."""

    read: Callable[[Item], str | int | None]
    kind: Literal["text", "time"] = "text"

    def value(self, item: Item) -> Value:
        """Return the field of an item; what it has not is the empty text, or the beginning of time."""
        found = self.read(item)
        return (found, "") if isinstance(found, int) else (0, found or "")


class _Predicate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One condition, as protobuf's JSON has it."""

    operation: str | int
    key: str
    int_value: int | None = None
    long_value: int | None = None
    string_value: str | None = None
    timestamp_value: datetime | None = None
    int_values: dict[Literal["values"], list[int]] | None = None
    long_values: dict[Literal["values"], list[int]] | None = None
    string_values: dict[Literal["values"], list[str]] | None = None


def read_filter(fields: Mapping[str, Field[Item]], text: str) -> Callable[[Item], bool]:
    """Return what says whether an item is wanted; raise `InvalidInput` that names what of the filter is wrong."""
    tests = [_test_of(find_field(fields, predicate.key, "filtered"), predicate) for predicate in _predicates(text)]
    return lambda item: all(test(item) for test in tests)


def find_field(fields: Mapping[str, Field[Item]], name: str, deed: str) -> Field[Item]:
    """Return a field by its name in the API; raise `InvalidInput` for one that there is not."""
    if name not in fields:
        raise InvalidInput(f"The list cannot be {deed} by {name!r}.", hint=f"There are: {', '.join(fields)}.")
    return fields[name]


def _predicates(text: str) -> list[_Predicate]:
    """Read a filter: JSON, as it is or written for an address once more."""
    if not text.strip():
        return []
    try:
        document = msgspec.json.decode(text if text.lstrip().startswith("{") else unquote_plus(text))
        found = [{_camel(name): value for name, value in item.items()} for item in document.get("predicates") or ()]
        return msgspec.convert(found, list[_Predicate], strict=False)
    except (msgspec.MsgspecError, AttributeError, TypeError) as error:
        raise InvalidInput(
            f"The filter cannot be read: {error}.",
            hint='Write {"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": "x"}]}.',
        ) from error


def _camel(name: str) -> str:
    """Return a name as JSON has it; protobuf takes it as the file has it, too."""
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def _test_of(field: Field[Item], predicate: _Predicate) -> Callable[[Item], bool]:
    operation = predicate.operation
    if isinstance(operation, int):
        operation = _OPERATIONS[operation] if 0 <= operation < len(_OPERATIONS) else str(operation)
    if operation not in _OPERATIONS[1:]:
        raise InvalidInput(
            f"{operation} is not an operation of a filter.", hint=f"There are: {', '.join(_OPERATIONS[1:])}."
        )
    values, is_list = _values_of(field, predicate)
    if is_list != (operation == "IN"):
        raise InvalidInput(f"{operation} of {predicate.key} takes {'one value' if is_list else 'a list of values'}.")
    if operation == "IN":
        return lambda item: field.value(item) in values
    if operation != "IS_SUBSTRING":
        compare = _COMPARISONS[operation]
        return lambda item: compare(field.value(item), values[0])
    if predicate.string_value is None:
        raise InvalidInput(f"IS_SUBSTRING of {predicate.key} takes a string_value.")
    part = predicate.string_value.casefold()
    return lambda item: part in field.value(item)[1].casefold()


def _values_of(field: Field[Item], predicate: _Predicate) -> tuple[list[Value], bool]:
    """Return what a predicate compares with, and whether that is a list; a number is a time in seconds."""
    lists = {"string_values": predicate.string_values, "int_values": predicate.int_values}
    lists["long_values"] = predicate.long_values
    given: dict[str, list[Any]] = {name: found.get("values", []) for name, found in lists.items() if found is not None}
    is_list = bool(given)
    for name in ("string_value", "int_value", "long_value", "timestamp_value"):
        if (found := getattr(predicate, name)) is not None:
            given[name] = [found]
    if len(given) != 1:
        raise InvalidInput(f"The condition on {predicate.key} has {len(given)} values, not one.")
    [(name, values)] = given.items()
    if name.startswith("string") != (field.kind == "text"):
        wanted = "string_value" if field.kind == "text" else "timestamp_value"
        raise InvalidInput(f"{predicate.key} is a {field.kind}, not a {name}.", hint=f"Write {wanted}.")
    return [_value(found) for found in values], is_list


def _value(given: str | int | datetime) -> Value:
    if isinstance(given, str):
        return (0, given)
    return (to_ms(given) if isinstance(given, datetime) else given * 1000, "")
