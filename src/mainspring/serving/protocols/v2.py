"""Open Inference Protocol V2 over REST, with the binary tensor extension."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.serving.faults import BadRequest
from mainspring.serving.models import LoadedModel
from mainspring.serving.numbers import decode_or_none, numbers_of_values
from mainspring.serving.outputs import PREDICT, Outputs
from mainspring.serving.plan import INPUT, Plan, describe_inputs
from mainspring.serving.protocols.tensors import InputTensor, encode_bytes, read_binary, read_tensors, to_tensor
from mainspring.serving.values import Values
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
    plain,
    refuse_twice,
)

EXTENSIONS = ("binary_tensor_data", "model_repository")
_LENGTH = b"inference-header-content-length"
_OCTETS = b"application/octet-stream"
_MAX_TENSORS = 10_000
_MAX_OUTPUTS = 100


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


class NumbersTensor(msgspec.Struct):
    """An input with flat numbers in the JSON."""

    name: str
    datatype: Literal["FP32", "FP64"]
    shape: list[int]
    data: list[float]
    parameters: dict[str, Any] | None = None


class NumbersRequest(msgspec.Struct):
    """An infer call whose inputs are numbers."""

    inputs: list[NumbersTensor]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


class IndexRequest(msgspec.Struct):
    """The body of a repository index call, if there is one."""

    ready: bool = False


_REQUEST = msgspec.json.Decoder(InferRequest)
_NUMBERS = msgspec.json.Decoder(NumbersRequest)
_DATA = re.compile(rb'"data"\s*:\s*\[')
_INDEX = msgspec.json.Decoder(IndexRequest)


def parse(body: bytes, headers: Headers) -> Parsed:
    """Read an infer call; the header with the JSON length decides whether there are binary tensors, not the type."""
    length = _json_length(headers, len(body))
    if length == 0:
        return _parse_raw(body)
    numbers = _parse_numbers(body) if length == len(body) else None
    return numbers or _parse_any(body, length)


def _parse_any(body: bytes, length: int) -> Parsed:
    """Read an infer call with tensors of whatever kind."""
    request = decode_json(_REQUEST, body[:length] if length != len(body) else body)
    tensors = request.inputs
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names) or len(names) > _MAX_TENSORS:
        raise BadRequest("an input is given twice" if len(names) <= _MAX_TENSORS else "there are too many inputs")
    if not tensors:
        raise BadRequest("there are no inputs")
    refuse_twice(body[:length], _keys(request))
    data = read_tensors(tensors, body, length)
    return _parsed(request, lambda plan: _read(tensors, data, plan))


def _parse_numbers(body: bytes) -> Parsed | None:
    """Read an infer call with one flat tensor of numbers; nothing if it is another one."""
    request = decode_or_none(_NUMBERS, body)
    if request is None or len(request.inputs) != 1 or body.count(b":") != _keys(request):
        return None
    (tensor,) = request.inputs
    mark = _DATA.search(body)
    if mark is None or request.parameters or tensor.parameters:
        return None
    numbers = numbers_of_values(tensor.data, tensor.shape, body[mark.end() : body.index(b"]", mark.end())])
    if numbers is None:
        return None
    given = Given(rows=numbers.matrix, text=numbers.text)

    def read(plan: Plan) -> Given:
        is_matrix = tensor.name not in plan.by_name and numbers.suits(plan)
        return given if is_matrix else _parse_any(body, len(body)).read(plan)

    return _parsed(request, read)


def _parsed(request: InferRequest | NumbersRequest, read: Callable[[Plan], Given]) -> Parsed:
    """Add what the client asks for beside the tensors."""
    parameters = request.parameters or {}
    binary = _flag(parameters, "binary_data_output", default=False)
    wanted = request.outputs or []
    if len(wanted) > _MAX_OUTPUTS:
        raise BadRequest("there are too many outputs")
    return Parsed(
        read,
        id=request.id,
        outputs=tuple(dict.fromkeys(output.name for output in wanted)),
        binary=binary,
        binary_by_name={
            output.name: _flag(output.parameters or {}, "binary_data", default=binary) for output in wanted
        },
        timeout_ms=_timeout_ms(parameters),
    )


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer the outputs that were asked for, or all of them, as JSON or as bytes behind the JSON."""
    chosen = _choose(parsed, answer)
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, array in chosen:
        datatype, values = to_tensor(array)
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if parsed.binary_by_name.get(name, parsed.binary) or datatype == "FP16":
            data = encode_bytes(values.ravel().tolist()) if datatype == "BYTES" else values.tobytes()
            tensor["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            tensor["data"] = plain(values.ravel())
        tensors.append(tensor)
    document = {
        "model_name": answer.endpoint,
        "model_version": answer.model.reference.version,
        "id": parsed.id or answer.id,
        "outputs": tensors,
    }
    if not tail:
        return json_reply(document)
    head = msgspec.json.encode(document)
    return Reply(200, b"".join([head, *tail]), _OCTETS, ((_LENGTH, b"%d" % len(head)),))


def describe(endpoint: str, model: LoadedModel, versions: list[str]) -> Reply:
    """Answer the metadata of a model: one tensor per column, or its tensors."""
    outputs: list[dict[str, object]] = [{"name": PREDICT, "datatype": "FP64", "shape": [-1]}]
    if model.sample is not None:
        outputs = [
            {"name": name, "datatype": to_tensor(array)[0], "shape": [-1, *array.shape[1:]]}
            for name, array in zip(model.sample.names, model.sample.arrays, strict=True)
        ]
    outputs += [{"name": name, "datatype": "FP64", "shape": [-1, -1]} for name in model.methods if name != PREDICT]
    return json_reply(
        {
            "name": endpoint,
            "versions": versions,
            "platform": model.platform,
            "inputs": describe_inputs(model.plan),
            "outputs": outputs,
        }
    )


def wants_ready_only(body: bytes) -> bool:
    """Read the body of a repository index call; none means all."""
    return bool(body.strip()) and decode_json(_INDEX, body).ready


WIRE = Wire("v2", parse, render, error_reply)


def _keys(request: InferRequest | NumbersRequest) -> int:
    """Count the keys the request must have had, to see whether it had more."""
    count = 1 + bool(request.id) + (request.parameters is not None) + (request.outputs is not None)
    count += sum(3 + (tensor.data is not None) for tensor in request.inputs) + len(request.outputs or ())
    for parameters in (request.parameters, *(one.parameters for one in (*request.inputs, *(request.outputs or ())))):
        count += len(parameters or ()) + (parameters is not None)
    return count - (request.parameters is not None)


def _json_length(headers: Headers, size: int) -> int:
    text = headers.get(_LENGTH)
    if text is None:
        return size or -1
    if not text.isdigit() or len(text) > 12 or int(text) > size:
        raise BadRequest(f"Inference-Header-Content-Length must be a number from 0 to the body's {size} bytes")
    return int(text)


def _parse_raw(body: bytes) -> Parsed:
    """Read a raw request: the body is the bytes of the model's one input, one row of it."""

    def read(plan: Plan) -> Given:
        inputs = describe_inputs(plan)
        if plan.is_numeric:
            inputs = [msgspec.structs.replace(inputs[0], name=INPUT, datatype="FP64", shape=[-1, len(plan.names)])]
        if len(inputs) != 1:
            raise BadRequest("raw tensors are read for models with one input only")
        (only,) = inputs
        shape = [1, *only.shape[1:]]
        if shape.count(-1) > 1:
            raise BadRequest("raw tensors are read for models with one variable dimension at most")
        tensor = InputTensor(only.name, only.datatype, shape)
        if only.datatype == "BYTES":
            try:
                return Given({only.name: [body.decode()]})
            except UnicodeDecodeError as error:
                raise BadRequest("the raw tensor is not UTF-8") from error
        if -1 in shape:
            known = -int(np.prod(shape)) * read_size(only.datatype)
            shape[shape.index(-1)] = len(body) // known if known else 0
        return _given(plan, {only.name: read_binary(tensor, body)})

    return Parsed(read, binary=True)


def read_size(datatype: str) -> int:
    """Return the bytes of one element."""
    return np.dtype({"BOOL": "?", "FP16": "f2", "FP32": "f4", "FP64": "f8"}.get(datatype, datatype.lower())).itemsize


def _read(tensors: list[InputTensor], data: dict[str, Values], plan: Plan) -> Given:
    """Turn tensors into what the plan checks: one tensor per column, or one matrix if every column is a number."""
    if plan.tensors:
        return Given(data)
    first = tensors[0]
    if len(tensors) == 1 and len(first.shape) == 2 and first.name not in plan.by_name and plan.is_numeric:
        width = first.shape[1]
        if width != len(plan.names):
            raise BadRequest(f"input {first.name[:60]!r} has {width} columns, expected {len(plan.names)}")
        return Given(rows=data[first.name])
    for tensor in tensors:
        column = plan.by_name.get(tensor.name)
        if (len(tensor.shape) == 2 and tensor.shape[1] == 1) or len(tensor.shape) == 1:
            continue
        if column is None or column.nested is None:
            raise BadRequest(f"input {tensor.name[:60]!r} must have shape [n] or [n,1], one tensor per column")
    return _given(plan, data)


def _given(plan: Plan, data: dict[str, Values]) -> Given:
    """Make columns of tensors: [n,1] is [n]."""
    if plan.tensors:
        return Given(data)
    if len(data) == 1 and plan.is_numeric and not plan.name_set & data.keys():
        return Given(rows=next(iter(data.values())))
    return Given({name: _flat(values) for name, values in data.items()})


def _flat(values: Values) -> Values:
    if isinstance(values, np.ndarray):
        return values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
    return values


def _choose(parsed: Parsed, answer: Answer) -> list[tuple[str, NDArray[Any]]]:
    """Return the outputs the client asked for, in its order; all of them if it named none."""
    outputs: Outputs = answer.outputs
    found = dict(zip(outputs.names, outputs.arrays, strict=True))
    if not parsed.outputs:
        return list(found.items())
    if len(parsed.outputs) == 1 and len(found) == 1 and parsed.outputs[0] in (PREDICT, *answer.model.methods):
        return [(parsed.outputs[0], outputs.primary)]
    unknown = [name for name in parsed.outputs if name not in found]
    if unknown:
        names = ", ".join(dict.fromkeys([*found, PREDICT, *answer.model.methods]))
        raise BadRequest(f"there is no output of that name, only {names}"[:500])
    return [(name, found[name]) for name in parsed.outputs]


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest("binary_data and binary_data_output must be true or false")
    return value


def _timeout_ms(parameters: dict[str, Any]) -> float:
    """Return Triton's ``timeout`` parameter, microseconds, in milliseconds; 0 leaves it to the operator."""
    value = parameters.get("timeout", 0)
    if type(value) is not int or not 0 <= value <= 3_600_000_000:
        raise BadRequest("timeout must be a whole number of microseconds from 0 to an hour")
    return value / 1000
