"""A reader of UBJSON, the binary form of JSON that XGBoost writes: strict, bounded, and without duplicate keys.

XGBoost's own reader ends the process on bytes that are not UBJSON, so a file is read here before it is given to it.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from mainspring.core import Corrupt, Json

_NUMBERS = {
    b"i": ">i1",
    b"U": ">u1",
    b"I": ">i2",
    b"l": ">i4",
    b"L": ">i8",
    b"d": ">f4",
    b"D": ">f8",
}
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}
_MAX_DEPTH = 64


def read_ubjson(data: bytes) -> Json:
    """Return the document; arrays of one type are numpy arrays. Raises `Corrupt` for anything else."""
    reader = _Reader(data)
    try:
        document = reader.value(reader.take(1), 0)
    except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise Corrupt(f"The file is not UBJSON: {str(error)[:100]}.") from error
    if reader.place != len(data):
        raise Corrupt("The file is not UBJSON: it goes on after its end.")
    return document


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size < 0 or self.place + size > len(self.data):
            raise ValueError("it is cut off")
        found = self.data[self.place : self.place + size]
        self.place += size
        return found

    def value(self, marker: bytes, depth: int) -> Json:
        """Read the value that a marker announces."""
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if marker in _NUMBERS:
            return self.numbers(marker, 1)[0].item()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker == b"S":
            return self.text()
        if marker == b"[":
            return self.array(depth)
        if marker == b"{":
            return self.object(depth)
        raise ValueError(f"unknown marker {marker!r}")

    def numbers(self, marker: bytes, count: int) -> np.ndarray[Any, Any]:
        """Read numbers of one type."""
        dtype = np.dtype(_NUMBERS[marker])
        return np.frombuffer(self.take(dtype.itemsize * count), dtype=dtype)

    def length(self) -> int:
        """Read a length: a marker of a whole number, then the number."""
        marker = self.take(1)
        if marker not in (b"i", b"U", b"I", b"l", b"L"):
            raise ValueError("a length is not a whole number")
        return int(self.numbers(marker, 1)[0])

    def text(self) -> str:
        """Read a text."""
        return self.take(self.length()).decode()

    def array(self, depth: int) -> Json:
        """Read an array: of one type and counted, counted, or up to its end."""
        marker = self.take(1)
        if marker == b"$":
            kind = self.take(1)
            if kind not in _NUMBERS or self.take(1) != b"#":
                raise ValueError("an array of one type is damaged")
            return self.numbers(kind, self.length())
        if marker == b"#":
            count = self.length()
            if not 0 <= count <= len(self.data):
                raise ValueError("an array has an impossible length")
            return [self.value(self.take(1), depth + 1) for _ in range(count)]
        found = []
        while marker != b"]":
            found.append(self.value(marker, depth + 1))
            marker = self.take(1)
        return found

    def object(self, depth: int) -> dict[str, Any]:
        """Read an object; a key may be there once."""
        found: dict[str, Any] = {}
        if self.data[self.place : self.place + 1] == b"#":
            self.place += 1
            left = self.length()
        else:
            left = -1
        while left != 0:
            if left < 0 and self.data[self.place : self.place + 1] == b"}":
                self.place += 1
                break
            key = self.text()
            if key in found:
                raise ValueError("a key is there twice")
            found[key] = self.value(self.take(1), depth + 1)
            left -= left > 0
        return found
