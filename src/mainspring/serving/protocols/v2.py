"""Open Inference Protocol V2 over REST, with the binary tensor extension."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.serving.faults import BadRequest
from mainspring.serving.models import LoadedModel
from mainspring.serving.plan import Plan
from mainspring.serving.protocols.tensors import InputTensor, encode_bytes, read_tensors
from mainspring.serving.validation import Columns, matrix_to_columns
from mainspring.serving.wire import Answer, Headers, Parsed, Reply, Wire, decode_json, error_reply, json_reply

EXTENSIONS = ("binary_tensor_data", "model_repository")
OUTPUT = "predict"
_DATATYPES = {
    "string": "BYTES",
    "double": "FP64",
    "float": "FP32",
    "long": "INT64",
    "integer": "INT32",
    "boolean": "BOOL",
}
_LENGTH = b"inference-header-content-length"
_MAX_TENSORS = 10_000


class RequestedOutput(msgspec.Struct):
    """An output the client asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """The JSON part of an infer call."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


_REQUEST = msgspec.json.Decoder(InferRequest)


def parse(body: bytes, headers: Headers) -> Parsed:
    """Read an infer call; the header with the JSON length decides whether there are binary tensors, not the type."""
    length = _json_length(headers, len(body))
    request = decode_json(_REQUEST, body[:length])
    names = [tensor.name for tensor in request.inputs]
    if len(set(names)) != len(names) or len(names) > _MAX_TENSORS:
        raise BadRequest("an input is given twice" if len(names) <= _MAX_TENSORS else "there are too many inputs")
    data = read_tensors(request.inputs, body, length)
    return Parsed(
        lambda plan: _read(request.inputs, data, plan), id=request.id, binary_output=_wants_binary_output(request)
    )


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer one tensor, ``predict``, as JSON or as bytes behind the JSON."""
    datatype, outputs = _output(answer.outputs)
    tensor: dict[str, Any] = {"name": OUTPUT, "datatype": datatype, "shape": list(outputs.shape)}
    document = {
        "model_name": answer.endpoint,
        "model_version": answer.model.reference.version,
        "id": parsed.id or answer.id,
        "outputs": [tensor],
    }
    if not parsed.binary_output:
        tensor["data"] = outputs.ravel().tolist()
        return json_reply(document)
    data = encode_bytes(outputs.ravel().tolist()) if datatype == "BYTES" else outputs.tobytes()
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = msgspec.json.encode(document)
    return Reply(200, head + data, b"application/octet-stream", ((_LENGTH, b"%d" % len(head)),))


def describe(endpoint: str, model: LoadedModel, versions: list[str]) -> Reply:
    """Answer the metadata of a model: one tensor per column."""
    return json_reply(
        {
            "name": endpoint,
            "versions": versions,
            "platform": model.platform,
            "inputs": [
                {"name": column.name, "datatype": _DATATYPES[column.type], "shape": [-1]}
                for column in model.plan.columns
            ],
            "outputs": [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}],
        }
    )


WIRE = Wire("v2", parse, render, error_reply)


def _json_length(headers: Headers, size: int) -> int:
    text = headers.get(_LENGTH)
    if text is None:
        return size
    if not text.isdigit() or len(text) > 12 or int(text) > size:
        raise BadRequest(f"Inference-Header-Content-Length must be a number from 0 to the body's {size} bytes")
    if int(text) == 0:
        raise BadRequest("raw tensors without a JSON header are not read here")
    return int(text)


def _wants_binary_output(request: InferRequest) -> bool:
    default = (request.parameters or {}).get("binary_data_output", False)
    for output in request.outputs or []:
        if output.name != OUTPUT:
            raise BadRequest(f"there is no output of that name, only {OUTPUT!r}")
        default = (output.parameters or {}).get("binary_data", default)
    if not isinstance(default, bool):
        raise BadRequest("binary_data and binary_data_output must be true or false")
    return default


def _read(tensors: list[InputTensor], data: dict[str, list[Any]], plan: Plan) -> Columns:
    """Turn tensors into columns: one tensor per column, or one matrix if every column is a number."""
    if not tensors:
        raise BadRequest("there are no inputs")
    first = tensors[0]
    if len(tensors) == 1 and len(first.shape) == 2 and first.name not in plan.by_name and plan.is_numeric:
        width = first.shape[1]
        if width != len(plan.names):
            raise BadRequest(f"input {first.name[:60]!r} has {width} columns, expected {len(plan.names)}")
        flat = data[first.name]
        return matrix_to_columns([flat[i : i + width] for i in range(0, len(flat), width)], plan.names)
    for tensor in tensors:
        if len(tensor.shape) == 2 and tensor.shape[1] != 1:
            raise BadRequest(f"input {tensor.name[:60]!r} must have shape [n] or [n,1], one tensor per column")
    return {tensor.name: data[tensor.name] for tensor in tensors}


def _output(outputs: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    if outputs.dtype.kind == "f":
        return "FP64", np.ascontiguousarray(outputs, dtype="<f8")
    if outputs.dtype.kind in "iu":
        return "INT64", np.ascontiguousarray(outputs, dtype="<i8")
    if outputs.dtype.kind == "b":
        return "BOOL", np.ascontiguousarray(outputs)
    return "BYTES", outputs.astype(str).astype(object)
