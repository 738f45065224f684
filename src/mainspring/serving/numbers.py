"""Requests of nothing but numbers, the most common and the largest ones, read at once.

Typed decoders refuse whatever is no JSON number (texts, booleans, nulls, NaN), so that what they return needs no look
at each value. Whole numbers become floats there: a plan that may need them exactly, or that finds something wrong,
sends the request the general way, which reads it again and says what is wrong with it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.serving.plan import Plan
from mainspring.serving.validation import fits

T = TypeVar("T")
_BLANKS = b"[] \t\r\n"


@dataclass(frozen=True, slots=True)
class Numbers:
    """A request as a float64 matrix (rows, columns), and the text it was sent as."""

    matrix: NDArray[np.float64]
    text: bytes
    """The numbers as they were sent, row by row, separated by commas, without brackets and blanks: for the log."""

    def suits(self, plan: Plan) -> bool:
        """Say whether the matrix keeps every rule of a plan: nothing about it needs a closer look."""
        if plan.is_open:
            return False  # whole numbers stay whole there
        if plan.is_numeric:
            return self.matrix.shape[1] == len(plan.names) and fits(plan, self.matrix)
        return len(plan.tensors) == 1 and plan.tensors[0].dtype == "float64"


def decode_or_none(decoder: msgspec.json.Decoder[T], body: bytes) -> T | None:
    """Decode a request whose every value has its type; nothing if it is not of this kind, or damaged."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def numbers_of_rows(rows: Sequence[Sequence[float]], text: bytes) -> Numbers | None:
    """Make a matrix of rows; nothing if they are ragged, or none. ``text`` may have brackets and blanks."""
    widths = set(map(len, rows))
    if len(widths) != 1 or 0 in widths:
        return None
    flat = tuple(chain.from_iterable(rows))
    return Numbers(_pack(flat).reshape(len(rows), widths.pop()), text.translate(None, _BLANKS))


def numbers_of_values(values: Sequence[float], shape: Sequence[int], text: bytes) -> Numbers | None:
    """Make a matrix of flat values; nothing unless ``shape`` is (rows, columns) and theirs."""
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != len(values):
        return None
    return Numbers(_pack(values).reshape(shape[0], shape[1]), text.translate(None, _BLANKS))


def _pack(values: Sequence[float]) -> NDArray[np.float64]:
    """Make an array of Python floats, three times as fast as `numpy.array` does."""
    buffer = bytearray(8 * len(values))
    struct.pack_into(f"={len(values)}d", buffer, 0, *values)
    return np.frombuffer(buffer, dtype=np.float64)
