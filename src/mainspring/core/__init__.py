"""Settings, errors, clock, ids: what every other room stands on and that stands on none of them."""

from __future__ import annotations

from mainspring.core.clock import Clock, FixedClock, SimulatedClock, SystemClock, open_clock, to_datetime, to_iso, to_ms
from mainspring.core.errors import (
    AlreadyExists,
    Conflict,
    Corrupt,
    InvalidInput,
    MainspringError,
    NotFound,
    Refused,
    Unavailable,
)
from mainspring.core.ids import encode_id, new_hex_id, new_id
from mainspring.core.untyped import Foreign, Json

__all__ = [
    "AlreadyExists",
    "Clock",
    "Conflict",
    "Corrupt",
    "FixedClock",
    "Foreign",
    "InvalidInput",
    "Json",
    "MainspringError",
    "NotFound",
    "Refused",
    "SimulatedClock",
    "SystemClock",
    "Unavailable",
    "encode_id",
    "new_hex_id",
    "new_id",
    "open_clock",
    "to_datetime",
    "to_iso",
    "to_ms",
]
