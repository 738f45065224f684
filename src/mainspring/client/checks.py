"""What may be logged: the rules for keys and values, checked at the call and before anything is written."""

from __future__ import annotations

import math
import operator
from typing import SupportsFloat, SupportsIndex

from mainspring.core import InvalidInput

MAX_KEY = 250
MAX_PARAM_VALUE = 6000
MAX_TAG_VALUE = 8000
_INT64 = 2**63


def check_key(kind: str, key: object) -> str:
    """Return the name of a metric, param or tag if it is one."""
    if not isinstance(key, str) or not key:
        raise InvalidInput(f"Invalid {kind} name: {key!r}.", hint=f"Give the {kind} a name, as text.")
    parts = key.split("/")
    if key[0] == "/" or "\\" in key or ".." in parts or "." in parts or not key.isprintable():
        raise InvalidInput(
            f"Invalid {kind} name: {key[:100]!r}.",
            hint="Names are relative, slash-separated, without '..', '.', backslashes or control characters.",
        )
    if len(key) > MAX_KEY:
        raise InvalidInput(f"The {kind} name {key[:20]!r}… has {len(key)} characters.", hint=f"Use at most {MAX_KEY}.")
    return key


def check_value(key: str, value: SupportsFloat | SupportsIndex) -> float:
    """Return a metric's value: anything `float` understands (NumPy scalars, tensors of one element), but not text."""
    if isinstance(value, (str, bytes)):
        raise InvalidInput(f"Metric {key!r} has the value {value!r}, which is text.", hint="Log a number, or a param.")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InvalidInput(
            f"Metric {key!r} has a value of the type {type(value).__name__}, which is not a number.",
            hint="Log one number: for a tensor, its .item().",
        ) from error


def check_integer(name: str, value: SupportsIndex) -> int:
    """Return a step or a time stamp if it fits into 64 bits."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InvalidInput(f"The {name} {value!r} is not a whole number.", hint=f"Pass {name} as int.") from error
    if not -_INT64 <= number < _INT64:
        raise InvalidInput(f"The {name} {number} does not fit into 64 bits.", hint=f"Use a smaller {name}.")
    return number


def check_text(kind: str, key: str, value: object, limit: int) -> str:
    """Return the value of a param or tag as text of at most ``limit`` characters."""
    text = str(value)
    if len(text) > limit:
        raise InvalidInput(
            f"The value of {kind} {key!r} has {len(text)} characters.",
            hint=f"At most {limit} are allowed: log it as an artifact.",
        )
    if "\0" in text or not _is_unicode(text):
        raise InvalidInput(f"The value of {kind} {key!r} contains NUL or half a surrogate pair.", hint="Remove it.")
    return text


def to_wire(value: float) -> float | str:
    """Return a number as JSON can carry it: NaN and the infinities become text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
