"""KServe V1, TensorFlow Serving's row form, and Vertex AI's custom container: ``{"instances": […]}``."""

from __future__ import annotations

from typing import Any

import msgspec

from mainspring.core import MainspringError
from mainspring.serving.faults import BadRequest
from mainspring.serving.numbers import Numbers, decode_or_none, numbers_of_rows
from mainspring.serving.protocols.answers import predictions
from mainspring.serving.validation import Rules
from mainspring.serving.wire import (
    Answer,
    Given,
    Headers,
    Parsed,
    Reply,
    Wire,
    decode_json,
    error_reply,
    json_reply,
    refuse_twice,
)

_RULES = Rules()


class PredictRequest(msgspec.Struct):
    """The body of a predict call; ``inputs`` is KServe's other name for the rows, ``parameters`` Vertex's extra."""

    instances: list[Any] | None = None
    inputs: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class NumbersRequest(msgspec.Struct):
    """The same with rows of numbers only."""

    instances: list[list[float]]


_REQUEST = msgspec.json.Decoder(PredictRequest)
_NUMBERS = msgspec.json.Decoder(NumbersRequest)


def parse(body: bytes, headers: Headers) -> Parsed:
    """Read rows: objects by column name, or lists in the signature's order."""
    numbers = read_instances(body)
    if numbers is None:
        return _parse_any(body)
    given = Given(rows=numbers.matrix, text=numbers.text)
    return Parsed(lambda plan: given if numbers.suits(plan) else _parse_any(body).read(plan), rules=_RULES)


def read_instances(body: bytes) -> Numbers | None:
    """Read a body that is ``{"instances": …}`` with rows of numbers, and nothing else; else return nothing."""
    if body.count(b":") != 1:
        return None
    request = decode_or_none(_NUMBERS, body)
    if request is None:
        return None
    return numbers_of_rows(request.instances, body[body.index(b"[") : body.rindex(b"]")])


def _parse_any(body: bytes) -> Parsed:
    """Read rows of whatever kind."""
    request = decode_json(_REQUEST, body)
    if (request.instances is None) == (request.inputs is None):
        raise BadRequest("the body must have 'instances', a list of rows")
    rows = (request.instances if request.instances is not None else request.inputs) or []
    keys = 1 if request.parameters is None else 2 + len(request.parameters)
    refuse_twice(body, keys + sum(len(row) for row in rows if type(row) is dict))
    given = Given(rows=rows, form="table")
    return Parsed(lambda plan: given, params=request.parameters, rules=_RULES)


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer ``{"predictions": […]}``, one entry per instance."""
    return json_reply({"predictions": predictions(answer.outputs)})


def fault(error: MainspringError) -> Reply:
    """Answer an error in KServe's shape."""
    return error_reply(error)


WIRE = Wire("v1", parse, render, fault)
