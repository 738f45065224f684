"""Tensors of the Open Inference Protocol: flat, nested or binary data of a declared type and shape, checked."""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.serving.faults import BadRequest, show
from mainspring.serving.values import Values

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
_DATATYPES = {np.dtype(kind): name for name, kind in NUMPY.items()}
_MAX_DIMENSIONS = 16
_NONE = type(None)
_NUMBERS = frozenset({float, int})
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


def read_tensors(tensors: list[InputTensor], body: bytes, start: int) -> dict[str, Values]:
    """Return the values of all tensors, from the JSON or from the bytes after it; no byte may be left over.

    A tensor of numbers without gaps is an array of its shape; one with nulls, or of texts, is a list (of lists).
    """
    values: dict[str, Values] = {}
    for tensor in tensors:
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            values[tensor.name] = _read_json(tensor)
            continue
        if type(size) is not int or size < 0 or start + size > len(body) or tensor.data is not None:
            raise BadRequest(f"input {show(tensor.name)}: binary_data_size does not fit the body")
        values[tensor.name] = read_binary(tensor, body[start : start + size])
        start += size
    if start != len(body):
        raise BadRequest(f"the body has {len(body) - start} bytes after its last tensor")
    return values


def read_binary(tensor: InputTensor, data: bytes) -> Values:
    """Return the values of a binary tensor."""
    count = _count(tensor)
    if tensor.datatype == "BYTES":
        return _shape(_decode_strings(tensor, data, count), tensor.shape)
    dtype = np.dtype(NUMPY[tensor.datatype])
    if len(data) != count * dtype.itemsize:
        raise BadRequest(
            f"input {show(tensor.name)} has {len(data)} bytes, {tensor.datatype} of shape {tensor.shape[:4]} needs "
            f"{count * dtype.itemsize}"
        )
    if tensor.datatype == "BOOL" and data.translate(None, b"\x00\x01"):
        raise BadRequest(f"input {show(tensor.name)}: a BOOL must be one byte, 0 or 1")
    return np.frombuffer(data, dtype=dtype).reshape(tensor.shape)


def encode_bytes(texts: list[Any]) -> bytes:
    """Encode strings as BYTES elements: four bytes of length, then the bytes."""
    encoded = [text if isinstance(text, bytes) else str(text).encode() for text in texts]
    return b"".join(struct.pack("<I", len(data)) + data for data in encoded)


def to_tensor(array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """Return an output's datatype in the protocol's words, and its values in that type."""
    dtype = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    name = _DATATYPES.get(dtype)
    if name is not None:
        return name, np.ascontiguousarray(array, dtype=dtype)
    if array.dtype.kind in "fiu":
        return "FP64", np.ascontiguousarray(array, dtype="<f8")
    return "BYTES", array.astype(str).astype(object) if array.dtype.kind != "O" else array


def _read_json(tensor: InputTensor) -> Values:
    """Return the values of a tensor with JSON data; null stands for a missing value."""
    count = _count(tensor)
    if tensor.datatype == "FP16":
        raise BadRequest(f"input {show(tensor.name)}: FP16 has no JSON form")
    if tensor.data is None:
        raise BadRequest(f"input {show(tensor.name)} has no data")
    values = _flatten(tensor, tensor.data, tensor.shape)
    if len(values) != count:
        raise BadRequest(
            f"input {show(tensor.name)} has {len(values)} values, its shape {tensor.shape[:4]} needs {count}"
        )
    kinds = set(map(type, values))
    if tensor.datatype == "FP64" and kinds <= _NUMBERS:
        try:
            return np.array(values, dtype=np.float64).reshape(tensor.shape)
        except OverflowError:
            return _shape(values, tensor.shape)
    _check_types(tensor, values, kinds)
    return _shape(values, tensor.shape)


def _count(tensor: InputTensor) -> int:
    """Return the number of values a tensor's shape declares; refuse shapes and types that are not the protocol's."""
    if tensor.datatype not in NUMPY and tensor.datatype != "BYTES":
        raise BadRequest(f"input {show(tensor.name)}: unknown datatype {show(tensor.datatype)}")
    if not 1 <= len(tensor.shape) <= _MAX_DIMENSIONS or any(size < 0 for size in tensor.shape):
        raise BadRequest(
            f"input {show(tensor.name)}: the shape must have 1 to {_MAX_DIMENSIONS} sizes, none of them negative"
        )
    return math.prod(tensor.shape)


def _flatten(tensor: InputTensor, data: list[Any], shape: list[int]) -> list[Any]:
    """Take flat data as it is; flatten nested data that agrees with the shape."""
    if list not in set(map(type, data)):
        return data
    if len(shape) < 2 or len(data) != shape[0]:
        raise BadRequest(f"input {show(tensor.name)}: its nested data is ragged or does not fit its shape")
    rows = data
    for depth, size in enumerate(shape[1:], start=2):
        if any(type(row) is not list or len(row) != size for row in rows):
            raise BadRequest(f"input {show(tensor.name)}: its nested data is ragged or does not fit its shape")
        rows = list(chain.from_iterable(rows))
        if depth == len(shape):
            break
    return rows


def _shape(values: list[Any], shape: list[int]) -> list[Any]:
    """Give flat values their shape, as lists in lists; a column, [n,1], stays flat."""
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return values
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)] if size else []
    return values


def _check_types(tensor: InputTensor, values: list[Any], kinds: set[type]) -> None:
    allowed = _JSON_TYPES.get(tensor.datatype, _INTEGER)
    if kinds - set(allowed):
        place, value = next((n, value) for n, value in enumerate(values) if type(value) not in allowed)
        raise BadRequest(
            f"input {show(tensor.name)}: expected {tensor.datatype}, got {show(value)} at position {place}"
        )
    if allowed is _INTEGER:
        limits = np.iinfo(NUMPY[tensor.datatype])
        for place, value in enumerate(values):
            if value is not None and not limits.min <= value <= limits.max:
                raise BadRequest(
                    f"input {show(tensor.name)}: {show(value)} at position {place} does not fit {tensor.datatype}"
                )


def _decode_strings(tensor: InputTensor, data: bytes, count: int) -> list[Any]:
    values: list[Any] = []
    start = 0
    while start < len(data):
        end = start + 4
        if end <= len(data):
            end += int.from_bytes(data[start : start + 4], "little")
        if end > len(data):
            raise BadRequest(f"input {show(tensor.name)}: string {len(values)} reaches past the end of its data")
        try:
            values.append(data[start + 4 : end].decode())
        except UnicodeDecodeError as error:
            raise BadRequest(f"input {show(tensor.name)}: string {len(values)} is not UTF-8") from error
        start = end
    if len(values) != count:
        raise BadRequest(
            f"input {show(tensor.name)} has {len(values)} strings, its shape {tensor.shape[:4]} needs {count}"
        )
    return values
