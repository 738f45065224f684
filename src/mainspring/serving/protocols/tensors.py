"""Tensors of the Open Inference Protocol: flat, nested or binary data of a declared type and shape, checked."""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from mainspring.serving.faults import BadRequest, show

NUMPY = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_NONE = type(None)
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "BOOL": (bool, _NONE),
    "FP32": (float, int, _NONE),
    "FP64": (float, int, _NONE),
    "BYTES": (str, _NONE),
}
_INTEGER = (int, _NONE)


class InputTensor(msgspec.Struct):
    """One input of an infer call."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


def read_tensors(tensors: list[InputTensor], body: bytes, start: int) -> dict[str, list[Any]]:
    """Return the values of all tensors, from the JSON or from the bytes after it; no byte may be left over."""
    values = {}
    for tensor in tensors:
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            values[tensor.name] = _read_json(tensor)
            continue
        if type(size) is not int or size < 0 or start + size > len(body) or tensor.data is not None:
            raise BadRequest(f"input {_name(tensor)}: binary_data_size does not fit the body")
        values[tensor.name] = _read_binary(tensor, body[start : start + size])
        start += size
    if start != len(body):
        raise BadRequest(f"the body has {len(body) - start} bytes after its last tensor")
    return values


def encode_bytes(texts: list[str]) -> bytes:
    """Encode strings as BYTES elements: four bytes of length, then the bytes."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(data)) + data for data in encoded)


def _read_binary(tensor: InputTensor, data: bytes) -> list[Any]:
    """Return the values of a binary tensor."""
    count = _count(tensor)
    if tensor.datatype == "BYTES":
        return _decode_strings(tensor, data, count)
    dtype = np.dtype(NUMPY[tensor.datatype])
    if len(data) != count * dtype.itemsize:
        raise BadRequest(
            f"input {_name(tensor)} has {len(data)} bytes, {tensor.datatype} of shape {tensor.shape[:4]} needs "
            f"{count * dtype.itemsize}"
        )
    if tensor.datatype == "BOOL" and data.translate(None, b"\x00\x01"):
        raise BadRequest(f"input {_name(tensor)}: a BOOL must be one byte, 0 or 1")
    values: list[Any] = np.frombuffer(data, dtype=dtype).tolist()
    return values


def _read_json(tensor: InputTensor) -> list[Any]:
    """Return the values of a tensor with JSON data, flat; null stands for a missing value."""
    count = _count(tensor)
    if tensor.datatype == "FP16":
        raise BadRequest(f"input {_name(tensor)}: FP16 has no JSON form")
    if tensor.data is None:
        raise BadRequest(f"input {_name(tensor)} has no data")
    values = _flatten(tensor, tensor.data)
    if len(values) != count:
        raise BadRequest(f"input {_name(tensor)} has {len(values)} values, its shape {tensor.shape[:4]} needs {count}")
    _check_types(tensor, values)
    return values


def _count(tensor: InputTensor) -> int:
    """Return the number of values a tensor's shape declares; refuse shapes and types that are not the protocol's."""
    if tensor.datatype not in NUMPY and tensor.datatype != "BYTES":
        raise BadRequest(f"input {_name(tensor)}: unknown datatype {show(tensor.datatype)}")
    if len(tensor.shape) not in (1, 2) or any(size < 0 for size in tensor.shape):
        raise BadRequest(f"input {_name(tensor)}: the shape must be [n] or [n,k], with no negative size")
    return math.prod(tensor.shape)


def _flatten(tensor: InputTensor, data: list[Any]) -> list[Any]:
    """Take flat data as it is; flatten nested data that agrees with the shape."""
    if not any(type(value) is list for value in data):
        return data
    width = tensor.shape[1] if len(tensor.shape) == 2 else -1
    if any(type(row) is not list or len(row) != width for row in data):
        raise BadRequest(f"input {_name(tensor)}: its nested data is ragged or does not fit its shape")
    return list(chain.from_iterable(data))


def _check_types(tensor: InputTensor, values: list[Any]) -> None:
    allowed = _JSON_TYPES.get(tensor.datatype, _INTEGER)
    if set(map(type, values)) - set(allowed):
        place, value = next((n, value) for n, value in enumerate(values) if type(value) not in allowed)
        raise BadRequest(f"input {_name(tensor)}: expected {tensor.datatype}, got {show(value)} at position {place}")
    if allowed is _INTEGER:
        limits = np.iinfo(NUMPY[tensor.datatype])
        for place, value in enumerate(values):
            if value is not None and not limits.min <= value <= limits.max:
                raise BadRequest(
                    f"input {_name(tensor)}: {show(value)} at position {place} does not fit {tensor.datatype}"
                )


def _decode_strings(tensor: InputTensor, data: bytes, count: int) -> list[Any]:
    values: list[Any] = []
    start = 0
    while start < len(data):
        end = start + 4
        if end <= len(data):
            end += int.from_bytes(data[start : start + 4], "little")
        if end > len(data):
            raise BadRequest(f"input {_name(tensor)}: string {len(values)} reaches past the end of its data")
        try:
            values.append(data[start + 4 : end].decode())
        except UnicodeDecodeError as error:
            raise BadRequest(f"input {_name(tensor)}: string {len(values)} is not UTF-8") from error
        start = end
    if len(values) != count:
        raise BadRequest(f"input {_name(tensor)} has {len(values)} strings, its shape {tensor.shape[:4]} needs {count}")
    return values


def _name(tensor: InputTensor) -> str:
    return show(tensor.name)
