"""Python components of KFP SDK 1.8: their imports, and their lists, dicts and booleans, which were texts then."""

from __future__ import annotations

import re

_IMPORTS = re.compile(r"^(from|import) kfp\.v2\b", re.MULTILINE)
_VALUES = '''

def _read_old_values(function):
    """Give a function lists, dicts and booleans where KFP 1.8 passed their JSON text."""
    import functools, inspect, json, typing

    def read(name, value):
        kind = function.__annotations__.get(name)
        kind = typing.get_origin(kind) or kind
        return json.loads(value) if isinstance(value, str) and kind in (list, dict, bool) else value

    @functools.wraps(function)
    def with_values(**given):
        return function(**{{name: read(name, value) for name, value in given.items()}})

    with_values.__signature__ = inspect.signature(function)
    return with_values


{function} = _read_old_values({function})
'''


def is_old(command: list[str]) -> bool:
    """Say whether a component's command is one that KFP SDK 1.8 wrote."""
    return any("kfp.v2.components.executor_main" in part for part in command)


def translate_source(source: str, function: str) -> str:
    """Return the source of a component of KFP SDK 1.8 as the executor of version 2 runs it."""
    return _IMPORTS.sub(r"\1 kfp", source) + _VALUES.format(function=function)
