"""Placeholders in constants: ``{{$.inputs.parameters['x']}}`` and the names of the job and the task."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mainspring.core import InvalidInput

_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")
_INPUT = re.compile(r"\.inputs\.parameters\[(?:'([^']*)'|\"([^\"]*)\")\]")
JOB_FIELDS = (
    "pipeline_job_name",
    "pipeline_job_resource_name",
    "pipeline_job_uuid",
    "pipeline_task_name",
    "pipeline_task_uuid",
    "pipeline_job_create_time_utc",
    "pipeline_job_schedule_time_utc",
)


def check_placeholders(value: Any, inputs: frozenset[str]) -> list[str]:  # noqa: ANN401 - any JSON value
    """Return the placeholders in a constant that cannot be filled from the named inputs."""
    found = []
    for text in _strings(value):
        for match in _PLACEHOLDER.finditer(text):
            name = _input_name(match[1])
            if name not in inputs if name is not None else match[1].removeprefix(".") not in JOB_FIELDS:
                found.append(match[0])
    return found


def fill_placeholders(value: Any, parameters: Mapping[str, Any], job: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Fill the placeholders of a constant from the task's other inputs and the names of the job, in one pass."""

    def fill(match: re.Match[str]) -> str:
        name = _input_name(match[1])
        if name is None:
            return job[match[1].removeprefix(".")]
        if parameters.get(name) is None:
            raise InvalidInput(f"The placeholder {match[0]} has no value: its input was not given.")
        return text_of(parameters[name])

    return _map_strings(value, lambda text: _PLACEHOLDER.sub(fill, text))


def text_of(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Write a value as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _input_name(body: str) -> str | None:
    match = _INPUT.fullmatch(body)
    return None if match is None else match[1] or match[2] or ""


def _strings(value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return change(value) if "{{$" in value else value
    if isinstance(value, list):
        return [_map_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key) if "{{$" in key else key: _map_strings(item, change) for key, item in value.items()}
    return value
