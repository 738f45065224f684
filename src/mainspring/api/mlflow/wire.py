"""MLflow's JSON: what it allows in requests, and how answers have to look.

Requests may carry 64-bit integers as strings and bare ``NaN`` tokens; answers carry integers as numbers, NaN as the
string ``"NaN"``, and leave out what is not set and lists that are empty.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from mainspring.core import InvalidInput

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Required = Annotated[str, msgspec.Meta(min_length=1)]
Wire = dict[str, Any]
MAX_PARAMETERS = 10_000
T = TypeVar("T", bound=msgspec.Struct)

_PATH = re.compile(r" - at `([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]*)`")


class KeyValue(msgspec.Struct, frozen=True):
    """A tag or a param."""

    key: Required
    value: str = ""


def decode(body: bytes, type: type[T]) -> T:
    """Decode a request body; raise `InvalidInput` that names the parameter."""
    if not body.strip():
        body = b"{}"
    try:
        return msgspec.json.decode(body, type=type, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return convert(read_json(body), type)


def read_query(query: bytes, type: type[msgspec.Struct]) -> Wire:
    """Read a query string for a request type; a parameter that is a list may be repeated."""
    document: Wire = {}
    lists = {name for name, field in type.__annotations__.items() if "list" in str(field)}
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise InvalidInput("The query string cannot be read.") from error
    for name, value in pairs:
        if name in lists:
            document.setdefault(name, []).append(value)
        else:
            document[name] = value
    return document


def convert(document: object, type: type[T]) -> T:
    """Check a decoded document against a request type; a field that is null is not set."""
    given = None
    try:
        given = _without_nulls(document)
        return msgspec.convert(given, type, strict=False)
    except msgspec.ValidationError as error:
        raise _explain(error, given) from error
    except RecursionError as error:
        raise InvalidInput("The request body is nested too deeply.", hint="Send one flat JSON object.") from error


def encode(document: Wire) -> bytes:
    """Encode an answer."""
    return msgspec.json.encode(document)


def set_fields(**fields: object) -> Wire:
    """Return the fields that are set: not None, not an empty list."""
    return {name: value for name, value in fields.items() if value is not None and value != []}


def pairs(values: Mapping[str, str]) -> list[Wire]:
    """Return tags as MLflow's list of keys and values."""
    return [{"key": key, "value": value} for key, value in values.items()]


def to_tags(tags: list[KeyValue] | None) -> dict[str, str]:
    """Return MLflow's list of keys and values as a mapping; the last of a key wins."""
    return {tag.key: tag.value for tag in tags or ()}


def read_number(value: float | str) -> float:
    """Return a metric's value, which may be the string NaN, Infinity or -Infinity."""
    try:
        return float(value)
    except ValueError as error:
        raise InvalidInput(f"Invalid value {json.dumps(str(value)[:100])} for parameter 'value' supplied") from error


def write_number(value: float) -> float | str:
    """Return a metric's value as it goes into an answer."""
    return "NaN" if math.isnan(value) else value


def read_json(body: bytes) -> object:
    """Read JSON as Python's own parser does, bare NaN tokens included; an empty body is an empty object."""
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The request body is not valid JSON.", hint="Send one JSON object, in UTF-8.") from error


def _without_nulls(document: object) -> object:
    """Return a document without the fields that are null, at any depth; an element that is null stays."""
    if isinstance(document, dict):
        return {name: _without_nulls(value) for name, value in document.items() if value is not None}
    if isinstance(document, list):
        return [_without_nulls(value) for value in document]
    return document


def _explain(error: msgspec.ValidationError, document: object) -> InvalidInput:
    text = str(error)
    missing = _MISSING.search(text)
    path = _PATH.search(text)
    where = path[1] if path else ""
    if missing is not None:
        above = where.removeprefix("$").removeprefix(".")
        return missing_parameter(f"{above}.{missing[1]}" if above else missing[1])
    value = _find(document, where)
    name = re.sub(r"\[[^\]]*\]", "", where.rpartition(".")[2]) or "request"
    if value == "" and "length >= 1" in text:
        return missing_parameter(where.removeprefix("$."))
    shown = json.dumps(value, default=str, sort_keys=True, separators=(",", ":"))[:200]
    kind = type(value).__name__
    hint = f"Hint: Value was of type '{kind}'. See the API docs for more information about request parameters."
    return InvalidInput(f"Invalid value {shown} for parameter '{name}' supplied: ", hint=hint)


def missing_parameter(name: str) -> InvalidInput:
    """Return the error for a parameter that has to be there, in MLflow's words."""
    return InvalidInput(
        f"Missing value for required parameter '{name}'.",
        hint="See the API docs for more information about request parameters.",
    )


def _find(document: object, path: str) -> object:
    found = document
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path):
        if name and isinstance(found, dict):
            found = found.get(name)
        elif index and isinstance(found, list) and int(index) < len(found):
            found = found[int(index)]
    return found
