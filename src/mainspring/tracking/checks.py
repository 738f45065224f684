"""What MLflow allows in names, keys and values, and the errors it gives for the rest."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping

from mainspring.core import InvalidInput

_KEY = re.compile(r"[/\w.\- :]*")
MAX_KEY = 250
MAX_PARAM_VALUE = 6000
MAX_RUN_TAG_VALUE = 8000
MAX_EXPERIMENT_TAG_VALUE = 20_000
MAX_EXPERIMENT_NAME = 500
MAX_MODEL_VALUE = 32_768
"""Of the params and tags of logged models: more than fits in what MLflow itself writes there."""

_LENGTH_NAMES = {"metric": "Metric name", "param": "Param key"}


def check_length(name: str, value: str, limit: int) -> str:
    """Return ``value`` if it has at most ``limit`` characters and can be stored as text."""
    if len(value) > limit:
        raise InvalidInput(f"'{name}' exceeds the maximum length of {limit} characters")
    if "\0" in value:
        raise InvalidInput(f"'{name}' contains a NUL character.", hint="Remove it.")
    return value


def check_key(kind: str, key: str, *, within: str = "") -> str:
    """Return the key of a metric, param or tag if it is one; ``within`` is where it is in a batch: ``tags[0]``."""
    path = f"{within}." * bool(within) + ("name" if kind == "metric" else "key")
    if not key:
        raise InvalidInput(
            f"Missing value for required parameter '{path}'.",
            hint="See the API docs for more information about request parameters.",
        )
    check_length(_LENGTH_NAMES.get(kind, path), key, MAX_KEY)
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            f"Invalid value {_shown(key)} for parameter '{path}' supplied: Names may only contain alphanumerics, "
            "underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
        )
    check_plain(path, key)
    return key


def check_plain(path: str, name: str) -> str:
    """Return a name if it stays the same when it is read as a relative path."""
    clean = posixpath.normpath(name)
    if clean != name or clean == "." or clean.startswith(("..", "/")):
        raise InvalidInput(
            f"Invalid value {_shown(name)} for parameter '{path}' supplied: Names may be treated as files in certain "
            "cases, and must not resolve to other names when treated as such. This name would resolve to "
            f"{clean[:100]!r}"
        )
    return name


def _shown(text: str) -> str:
    return json.dumps(text[:100])


def check_tags(tags: Mapping[str, str], *, limit: int) -> Mapping[str, str]:
    """Return tags whose keys and values are within the limits."""
    for key, value in tags.items():
        check_key("tag", key)
        check_length("value", value, limit)
    return tags
