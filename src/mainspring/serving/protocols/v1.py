"""KServe V1, TensorFlow Serving's row form, and Vertex AI's custom container: ``{"instances": […]}``."""

from __future__ import annotations

from typing import Any

import msgspec

from mainspring.core import MainspringError
from mainspring.serving.faults import BadRequest
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
    numbers_text,
    refuse_twice,
)

_RULES = Rules()


class PredictRequest(msgspec.Struct):
    """The body of a predict call; ``inputs`` is KServe's other name for the rows, ``parameters`` Vertex's extra."""

    instances: list[Any] | None = None
    inputs: list[Any] | None = None
    parameters: dict[str, Any] | None = None


_REQUEST = msgspec.json.Decoder(PredictRequest)


def parse(body: bytes, headers: Headers) -> Parsed:
    """Read rows: objects by column name, or lists in the signature's order."""
    request = decode_json(_REQUEST, body)
    if (request.instances is None) == (request.inputs is None):
        raise BadRequest("the body must have 'instances', a list of rows")
    rows = (request.instances if request.instances is not None else request.inputs) or []
    keys = 1 if request.parameters is None else 2 + len(request.parameters)
    refuse_twice(body, keys + sum(len(row) for row in rows if type(row) is dict))
    is_plain = request.parameters is None and bool(rows) and type(rows[0]) is list
    given = Given(rows=rows, text=numbers_text(body, b"[[", b"]]") if is_plain else b"")
    return Parsed(lambda plan: given, params=request.parameters, rules=_RULES)


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer ``{"predictions": […]}``, one entry per instance."""
    return json_reply({"predictions": predictions(answer.outputs)})


def fault(error: MainspringError) -> Reply:
    """Answer an error in KServe's shape."""
    return error_reply(error)


WIRE = Wire("v1", parse, render, fault)
