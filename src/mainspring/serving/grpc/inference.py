"""Infer calls between protobuf and the V2 wire: one reader, one writer and one set of checks for REST and gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from mainspring.core import Foreign, MainspringError
from mainspring.serving.faults import BadRequest, show
from mainspring.serving.grpc.messages import load_messages
from mainspring.serving.protocols import v2
from mainspring.serving.protocols.tensors import NUMPY, encode_bytes
from mainspring.serving.wire import Answer, Headers, Parsed, Reply, Wire

_LENGTH = b"inference-header-content-length"
_PROTOBUF = b"application/grpc"
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse(body: bytes, headers: Headers) -> Parsed:
    """Read a ModelInferRequest; ``binary`` of what is returned says whether its tensors were raw."""
    try:
        request = load_messages().ModelInferRequest.FromString(body)
    except DecodeError as error:
        raise BadRequest("the message is not a ModelInferRequest") from error
    is_raw = bool(request.raw_input_contents)
    parts = _raw_parts(request) if is_raw else [_pack(tensor) for tensor in request.inputs]
    head = msgspec.json.encode(
        {
            "id": request.id,
            "parameters": _plain_parameters(request.parameters, leave=("binary_data_output",)),
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": list(tensor.shape),
                    "parameters": {"binary_data_size": len(part)},
                }
                for tensor, part in zip(request.inputs, parts, strict=True)
            ],
            "outputs": [{"name": output.name} for output in request.outputs],
        }
    )
    parsed = v2.parse(b"".join([head, *parts]), {_LENGTH: b"%d" % len(head)})
    return replace(parsed, binary=is_raw, binary_by_name={})


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer raw tensors with raw ones and typed with typed (FP16, which has no typed form, makes all raw)."""
    reply = v2.render(replace(parsed, binary=True), answer)
    length = int(dict(reply.headers)[_LENGTH])
    document = msgspec.json.decode(reply.body[:length])
    response = load_messages().ModelInferResponse(
        model_name=document["model_name"], model_version=document["model_version"], id=document["id"]
    )
    is_raw = parsed.binary or any(tensor["datatype"] == "FP16" for tensor in document["outputs"])
    start = length
    for tensor in document["outputs"]:
        end = start + tensor["parameters"]["binary_data_size"]
        output = response.outputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        if is_raw:
            response.raw_output_contents.append(reply.body[start:end])
        else:
            getattr(output.contents, _CONTENTS[tensor["datatype"]]).extend(
                _unpack(tensor["datatype"], reply.body[start:end])
            )
        start = end
    return Reply(200, response.SerializeToString(), _PROTOBUF)


def fault(error: MainspringError) -> Reply:
    """Say what is wrong; the server turns the status into gRPC's."""
    return Reply(error.http_status, str(error).encode(), _PROTOBUF)


WIRE = Wire("grpc", parse, render, fault)


def _raw_parts(request: Foreign) -> list[bytes]:  # a run-time class
    if len(request.raw_input_contents) != len(request.inputs):
        raise BadRequest(
            f"there are {len(request.raw_input_contents)} raw tensors for {len(request.inputs)} inputs: "
            "give all of them raw, or all typed"
        )
    for tensor in request.inputs:
        if tensor.HasField("contents") and tensor.contents.ByteSize():
            raise BadRequest(f"input {show(tensor.name)} is given twice, raw and typed")
    return list(request.raw_input_contents)


def _pack(tensor: Foreign) -> bytes:  # a run-time class
    """Return typed contents as the bytes of a raw tensor."""
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise BadRequest(f"input {show(tensor.name)}: {show(tensor.datatype)} has no typed contents")
    others = [other.name for other, _ in tensor.contents.ListFields() if other.name != field]
    if others:
        raise BadRequest(f"input {show(tensor.name)} is {tensor.datatype}, so its values belong into {field}")
    values = getattr(tensor.contents, field)
    if field == "bytes_contents":
        return encode_bytes(list(values))
    array = np.array(values, dtype=_wide(field))
    dtype = np.dtype(NUMPY[tensor.datatype])
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise BadRequest(f"input {show(tensor.name)}: a number is out of the range of {tensor.datatype}")
    return array.astype(dtype).tobytes()


def _wide(field: str) -> str:
    return {"bool_contents": "?", "uint64_contents": "u8", "fp32_contents": "f4", "fp64_contents": "f8"}.get(
        field, "i8"
    )


def _unpack(datatype: str, data: bytes) -> list[Any]:
    if datatype != "BYTES":
        found: list[Any] = np.frombuffer(data, dtype=NUMPY[datatype]).tolist()
        return found
    texts, start = [], 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        texts.append(data[start + 4 : end])
        start = end
    return texts


def _plain_parameters(parameters: Mapping[str, Any], *, leave: tuple[str, ...]) -> dict[str, object]:
    """Return the parameters as JSON has them, without those that only REST knows."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
        for name, value in parameters.items()
        if name not in leave
    }
