"""What MLflow allows in names, keys and values, and the errors it gives for the rest."""

from __future__ import annotations

from collections.abc import Mapping

from mainspring.core import InvalidInput

MAX_KEY = 250
MAX_PARAM_VALUE = 6000
MAX_RUN_TAG_VALUE = 8000
MAX_EXPERIMENT_TAG_VALUE = 20_000
MAX_EXPERIMENT_NAME = 500


def check_length(name: str, value: str, limit: int) -> str:
    """Return ``value`` if it has at most ``limit`` characters and can be stored as text."""
    if len(value) > limit:
        raise InvalidInput(
            f"{name} '{value[:20]}' had length {len(value)}, which exceeded length limit of {limit}.",
            hint="Shorten it, or log it as an artifact.",
        )
    if "\0" in value:
        raise InvalidInput(f"{name} contains a NUL character.", hint="Remove it.")
    return value


def check_key(kind: str, key: str) -> str:
    """Return the key of a metric, param or tag if it is one."""
    if not key:
        raise InvalidInput(f"Invalid {kind} name: ''.", hint=f"Give the {kind} a name.")
    parts = key.split("/")
    if key[0] == "/" or "\\" in key or ".." in parts or "." in parts or not key.isprintable():
        raise InvalidInput(
            f"Invalid {kind} name: {key[:100]!r}.",
            hint="Names are relative, slash-separated, without '..', '.', backslashes or control characters.",
        )
    return check_length(f"{kind.capitalize()} name", key, MAX_KEY)


def check_tags(tags: Mapping[str, str], *, limit: int) -> Mapping[str, str]:
    """Return tags whose keys and values are within the limits."""
    for key, value in tags.items():
        check_key("tag", key)
        check_length("Tag value", value, limit)
    return tags
