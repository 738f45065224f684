"""A compiled file as plain values: YAML or JSON, one document or several."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from mainspring.core import InvalidInput

_MOST_VALUES = 2_000_000


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # chosen at run time
    """Reads YAML as KFP's backend does: what looks like a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - where the base class keeps them
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_documents(data: bytes) -> list[Any]:
    """Return the documents of a compiled file that are not empty; raise `InvalidInput` that names the line."""
    try:
        found = [document for document in _parse(data) if document is not None]
        size = _count(found, {})
    except RecursionError as error:
        raise InvalidInput("The compiled pipeline is nested too deeply.", hint="Compile it with kfp.") from error
    except (yaml.YAMLError, msgspec.DecodeError, ValueError) as error:
        raise InvalidInput(
            f"The compiled pipeline cannot be read: {_where(error)}.",
            hint="It has to be YAML or JSON: compile it again.",
        ) from error
    if size > _MOST_VALUES:
        raise InvalidInput(
            f"The compiled pipeline holds {size} values when its aliases are written out, more than {_MOST_VALUES}.",
            hint="Compile it with kfp, which writes none.",
        )
    return found


def _parse(data: bytes) -> list[Any]:
    """Read JSON, which is YAML, too, but read much faster as what it is; or the documents of a YAML file."""
    if data.lstrip()[:1] == b"{" and b"\n---" not in data:
        return [msgspec.json.decode(data)]
    return list(yaml.load_all(data, Loader=_Loader))


def _count(value: object, counted: dict[int, int]) -> int:
    """Return how many values there are in one: what is mentioned twice counts twice, but is looked into once.

    A file whose aliases make much of little would fill the memory when it is written out.
    """
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in counted:
        parts = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count(part, counted) for part in parts)
    return counted[id(value)]


def _where(error: Exception) -> str:
    """Say what is wrong with a text, and on which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return str(error).splitlines()[0]
