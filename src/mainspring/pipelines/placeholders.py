"""Placeholders: ``{{$.inputs.parameters['x']}}`` and all its kin, in constants, commands, variables and requests.

A placeholder is looked up in a `Lookup`, in one pass: what is filled in is never read again as a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from mainspring.core import InvalidInput, Json

_PLACEHOLDER = re.compile(r"\{\{\$((?:(?!\}\}).)*)\}\}")
_KEY = r"\[(?:'([^']*)'|\"([^\"]*)\")\]"
_PARAMETER = re.compile(rf"\.inputs\.parameters{_KEY}")
_OUTPUT_FILE = re.compile(rf"\.outputs\.parameters{_KEY}\.output_file")
_ARTIFACT = re.compile(rf"\.(inputs|outputs)\.artifacts{_KEY}\.(uri|path|name|metadata)(?:{_KEY})?")
_VARIABLE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_EXECUTOR_FILES = (".outputs.output_file", ".outputMetadataUri", ".outputs.output_metadata_uri")
JOB_FIELDS = (
    "pipeline_job_name",
    "pipeline_job_resource_name",
    "pipeline_job_uuid",
    "pipeline_task_name",
    "pipeline_task_uuid",
    "pipeline_job_create_time_utc",
    "pipeline_job_schedule_time_utc",
    "pipeline_root",
    "workspace_path",
)


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What placeholders of one task mean."""

    parameters: Mapping[str, Any]
    job: Mapping[str, str]
    executor_input: Mapping[str, Any] | None = None
    """KFP's ExecutorInput, once the task's folder exists; without it only inputs and names can be filled."""


def check_placeholders(value: Json, inputs: frozenset[str]) -> list[str]:
    """Return the placeholders in a constant that cannot be filled from the named inputs and the job."""
    return [
        match[0]
        for text in _strings(value)
        for match in _PLACEHOLDER.finditer(text)
        if not _is_known_constant(match[1], inputs)
    ]


def check_command(
    value: Json, parameters: frozenset[str], inputs: frozenset[str], outputs: frozenset[str]
) -> list[str]:
    """Return the placeholders in a command, argument or variable that mean nothing to a task with this interface."""
    return [
        match[0]
        for text in _strings(value)
        for match in _PLACEHOLDER.finditer(text)
        if not _is_known_command(match[1], parameters, inputs, outputs)
    ]


def has_placeholder(value: Json) -> bool:
    """Say whether anything in the value waits to be filled."""
    return any("{{$" in text for text in _strings(value))


def fill_placeholders(value: Json, lookup: Lookup) -> Json:
    """Fill the placeholders of a value; a text that is one placeholder and nothing else keeps the value's type."""
    if isinstance(value, str):
        return _fill_text(value, lookup) if "{{$" in value else value
    if isinstance(value, list):
        return [fill_placeholders(item, lookup) for item in value]
    if isinstance(value, dict):
        return {text_of(fill_placeholders(key, lookup)): fill_placeholders(item, lookup) for key, item in value.items()}
    return value


def fill_words(words: tuple[str, ...], lookup: Lookup) -> tuple[str, ...]:
    """Fill a command line; an element that is ``{"Concat": …}`` or ``{"IfPresent": …}`` may become none or several."""
    return tuple(text_of(part) for word in words for part in _expand(_structure(word), lookup))


def expand_variables(text: str, variables: Mapping[str, str]) -> str:
    """Fill ``$(NAME)`` from other variables, as Kubernetes does: an unknown name stays, ``$$`` is a dollar sign.

    >>> expand_variables("$(HOST):80 $(OTHER) $$(HOST)", {"HOST": "a"})
    'a:80 $(OTHER) $(HOST)'
    """
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]) if match[1] else "$", text)


def text_of(value: Json) -> str:
    """Write a value as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _structure(word: str) -> Json:
    if not word.lstrip().startswith(('{"Concat"', '{"IfPresent"')):
        return word
    try:
        return msgspec.json.decode(word)
    except msgspec.DecodeError:
        return word


def _expand(part: Json, lookup: Lookup) -> Iterator[Any]:
    if isinstance(part, list):
        for item in part:
            yield from _expand(item, lookup)
    elif isinstance(part, dict) and "Concat" in part:
        yield "".join(text_of(found) for item in part["Concat"] for found in _expand(item, lookup))
    elif isinstance(part, dict) and "IfPresent" in part:
        choice = part["IfPresent"]
        present = _is_present(str(choice.get("InputName", "")), lookup)
        yield from _expand(choice.get("Then" if present else "Else") or [], lookup)
    else:
        yield fill_placeholders(part, lookup)


def _is_present(name: str, lookup: Lookup) -> bool:
    artifacts = (lookup.executor_input or {}).get("inputs", {}).get("artifacts", {})
    return lookup.parameters.get(name) is not None or name in artifacts


def _fill_text(text: str, lookup: Lookup) -> Json:
    whole = _PLACEHOLDER.fullmatch(text)
    if whole is not None:
        return _value_of(whole[1], lookup)
    fill: Callable[[re.Match[str]], str] = lambda match: text_of(_value_of(match[1], lookup))  # noqa: E731
    return _PLACEHOLDER.sub(fill, text)


def _value_of(body: str, lookup: Lookup) -> Json:
    if (match := _PARAMETER.fullmatch(body)) is not None:
        value = lookup.parameters.get(_first(match[1], match[2]))
        if value is None:
            raise InvalidInput(f"The placeholder {{{{${body}}}}} has no value: its input was not given.")
        return value
    name = body.removeprefix(".")
    if name in JOB_FIELDS:
        return lookup.job.get(name, "")
    if lookup.executor_input is not None:
        return _from_executor_input(body, lookup.executor_input)
    raise InvalidInput(f"The placeholder {{{{${body}}}}} is not known here.")


def _from_executor_input(body: str, document: Mapping[str, Any]) -> Json:
    if not body:
        return msgspec.json.encode(document).decode()
    if body in _EXECUTOR_FILES:
        return document["outputs"]["outputFile"]
    if (match := _OUTPUT_FILE.fullmatch(body)) is not None:
        found = document["outputs"]["parameters"].get(_first(match[1], match[2]))
        if found is not None:
            return found["outputFile"]
    elif (match := _ARTIFACT.fullmatch(body)) is not None:
        return _artifact_field(body, match, document)
    raise InvalidInput(f"The placeholder {{{{${body}}}}} is not known.", hint="Check the component's definition.")


def _artifact_field(body: str, match: re.Match[str], document: Mapping[str, Any]) -> Json:
    listed = document[match[1]]["artifacts"].get(_first(match[2], match[3]), {}).get("artifacts")
    if not listed:
        raise InvalidInput(f"The placeholder {{{{${body}}}}} has no value: the artifact was not given.")
    field, key = match[4], _first(match[5], match[6])
    if field == "path":
        return local_path(str(listed[0]["uri"]))
    value = listed[0].get(field, {} if field == "metadata" else "")
    if field != "metadata" or not key:
        return value
    if key not in value:
        raise InvalidInput(f"The placeholder {{{{${body}}}}} has no value: the artifact has no such metadata.")
    return value[key]


def local_path(uri: str) -> str:
    """Return the path at which a component finds an address: buckets are mounted, everything else is a path."""
    for scheme, folder in (("gs://", "/gcs/"), ("s3://", "/s3/"), ("minio://", "/minio/"), ("oci://", "/oci/")):
        if uri.startswith(scheme):
            return folder + uri.removeprefix(scheme)
    return uri.removeprefix("file://")


def _is_known_constant(body: str, inputs: frozenset[str]) -> bool:
    match = _PARAMETER.fullmatch(body)
    return _first(match[1], match[2]) in inputs if match else body.removeprefix(".") in JOB_FIELDS


def _is_known_command(body: str, parameters: frozenset[str], inputs: frozenset[str], outputs: frozenset[str]) -> bool:
    if not body or body in _EXECUTOR_FILES or _is_known_constant(body, parameters):
        return True
    if (match := _OUTPUT_FILE.fullmatch(body)) is not None:
        return _first(match[1], match[2]) in outputs
    match = _ARTIFACT.fullmatch(body)
    return match is not None and _first(match[2], match[3]) in (inputs if match[1] == "inputs" else outputs)


def _first(*groups: str | None) -> str:
    return next((group for group in groups if group is not None), "")


def _strings(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple) else []
