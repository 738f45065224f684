"""KServe V1, TensorFlow Serving's row form, and Vertex AI's custom container: ``{"instances": […]}``."""

from __future__ import annotations

from typing import Any

import msgspec

from mainspring.serving.faults import BadRequest
from mainspring.serving.validation import rows_to_columns
from mainspring.serving.wire import Answer, Headers, Parsed, Reply, Wire, decode_json, error_reply, json_reply


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
    rows = request.instances if request.instances is not None else request.inputs
    return Parsed(lambda plan: rows_to_columns(rows or [], plan))


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer ``{"predictions": […]}``, one entry per instance."""
    return json_reply({"predictions": answer.outputs.tolist()})


WIRE = Wire("v1", parse, render, error_reply)
