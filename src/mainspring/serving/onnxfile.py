"""Where an ONNX file keeps its weights: read from the protobuf itself, before any library opens the file.

A tensor may name a file beside the model. A name that leads out of the model's folder would read any file of the
server into a model's weights, so every one is checked. Only the wire format is read; field numbers are from
``onnx.proto3``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mainspring.blobs import check_relative
from mainspring.core import Corrupt, MainspringError, Refused

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_MAX_DEPTH = 64

# Which fields of a message hold messages that may, at some depth, hold a tensor.
_MODEL = {7: "graph", 25: "function", 20: "training"}
_INSIDE = {
    "model": _MODEL,
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA = 13


def check_external_data(path: Path, folder: Path) -> None:
    """Refuse a model that keeps data outside its folder; raise `Corrupt` if the file is not ONNX."""
    locations = set(external_locations(path.read_bytes()))
    for location in sorted(locations):
        try:
            target = path.parent / check_relative(location)
        except MainspringError as error:
            raise Refused(f"{path.name} keeps data at {location[:80]!r}, outside the model's folder.") from error
        if target.is_symlink() or not target.is_file() or not target.resolve().is_relative_to(folder.resolve()):
            raise Refused(f"{path.name} keeps data in {location[:80]!r}, which is not a file of the model.")


def external_locations(data: bytes) -> Iterator[str]:
    """Yield the location of every tensor that is kept in another file."""
    yield from _walk(memoryview(data), "model", 0)


def _walk(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise Corrupt("The ONNX model is nested too deeply.")
    inside = _INSIDE[kind]
    for field, value in _fields(data):
        if kind == "tensor" and field == _EXTERNAL_DATA:
            yield from _location(value)
        elif field in inside:
            yield from _walk(value, inside[field], depth + 1)


def _location(entry: memoryview) -> Iterator[str]:
    texts = {field: bytes(value) for field, value in _fields(entry)}
    if texts.get(1) == b"location":
        yield texts.get(2, b"").decode(errors="replace")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the length-delimited fields of a message; skip the others."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        wire = tag & 7
        if wire == _BYTES:
            length, place = _varint(data, place)
            if place + length > end:
                raise Corrupt("The file is not an ONNX model: a field reaches past its end.")
            yield tag >> 3, data[place : place + length]
            place += length
        elif wire == _VARINT:
            _, place = _varint(data, place)
        elif wire in (_EIGHT, _FOUR):
            place += 8 if wire == _EIGHT else 4
        else:
            raise Corrupt("The file is not an ONNX model.")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
    raise Corrupt("The file is not an ONNX model: a number is cut off.")
