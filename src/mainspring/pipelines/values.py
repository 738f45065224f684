"""Values that flow between tasks: parameters by name, artifacts by name, and how they fit their declared types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from mainspring.core import InvalidInput, Json
from mainspring.pipelines.placeholders import text_of
from mainspring.pipelines.plan import Parameter

ArtifactKind = Literal["file", "folder", "reference", "empty"]


class ArtifactValue(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact a task produced.

    ``file`` and ``folder`` are bytes in the store; a ``reference`` names bytes that lived in the store already
    (metadata ``mainspring_digest``); an ``empty`` artifact has only an address and metadata.
    """

    id: str
    name: str
    type: str
    schema_version: str
    kind: ArtifactKind
    digest: str | None
    uri: str
    metadata: dict[str, Any]


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters and artifacts by name: the inputs or the outputs of a task."""

    parameters: dict[str, Any] = {}
    artifacts: dict[str, ArtifactValue] = {}
    lists: dict[str, tuple[ArtifactValue, ...]] = {}
    """Artifact lists by name."""

    def all_artifacts(self) -> Iterator[tuple[str, ArtifactValue]]:
        """Iterate over all artifacts with their names; those of a list are ``name[0]``, ``name[1]``, …"""
        yield from self.artifacts.items()
        for name, listed in self.lists.items():
            for index, value in enumerate(listed):
                yield f"{name}[{index}]", value


def fit_parameter(value: Json, parameter: Parameter) -> Json:
    """Return the value as its declared type wants it; raise `InvalidInput` when it does not fit.

    As in KFP's backend, anything fits a STRING (as JSON text); everything else has to match.
    """
    fitted = text_of(value) if parameter.type == "STRING" else value
    if isinstance(fitted, float) and parameter.type == "NUMBER_INTEGER" and fitted.is_integer():
        fitted = int(fitted)
    if not _fits(fitted, parameter.type):
        raise InvalidInput(f"{_shown(value)} is not a {word_of(parameter.type)}")
    if parameter.literals and fitted not in parameter.literals:
        raise InvalidInput(f"{_shown(value)} is not one of {text_of(list(parameter.literals))}")
    return fitted


def fit_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, Parameter], owner: str) -> dict[str, Any]:
    """Return the arguments of a pipeline with their defaults; raise `InvalidInput` that names what is wrong."""
    for name in arguments:
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise InvalidInput(
                f"{owner} has no parameter {name!r}{nearest(name, parameters)}.", hint=f"Its parameters: {known}."
            )
    fitted: dict[str, Any] = {}
    for name, parameter in parameters.items():
        value = arguments.get(name)
        if value is None:
            if not parameter.optional:
                raise InvalidInput(f"{owner} needs the parameter {name!r}.", hint=f"Pass {name}=….")
            fitted[name] = None if parameter.default is msgspec.UNSET else parameter.default
            continue
        try:
            fitted[name] = fit_parameter(value, parameter)
        except InvalidInput as error:
            raise InvalidInput(f"{owner}, parameter {name!r}: {error.message}.", hint="Pass another value.") from error
    return fitted


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question to put behind a name that is not known: the nearest one that is; empty when none is near."""
    found = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def word_of(type: str) -> str:
    """Return the word for a parameter type in a message."""
    return _WORDS.get(type, type)


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "LIST": (list,),
    "STRUCT": (dict,),
    "TASK_FINAL_STATUS": (dict,),
    "TASK_CONFIG": (dict,),
}
_WORDS = {
    "STRING": "string",
    "NUMBER_INTEGER": "whole number",
    "NUMBER_DOUBLE": "number",
    "BOOLEAN": "boolean",
    "LIST": "list",
    "STRUCT": "dictionary",
}


def _shown(value: Json) -> str:
    """Return a value as JSON, so that "3" is not taken for 3."""
    return msgspec.json.encode(value).decode()[:200]


def _fits(value: Json, type: str) -> bool:
    if isinstance(value, bool):
        return type == "BOOLEAN"
    return isinstance(value, _PYTHON_TYPES.get(type, ()))
