"""Identifiers: time-ordered, unique across processes, safe in URLs and file names."""

from __future__ import annotations

import os
import time

from mainspring.core.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(clock: Clock) -> str:
    """Make a 26-character id: 48 bits of time, then 80 bits of entropy, in Crockford's base 32 (a ULID).

    Ids made later sort later. The entropy begins with the machine's nanoseconds, so that this also holds while a
    simulated clock stands still, and ends with random bits.
    """
    return encode_id(clock.now_ms(), (time.time_ns() & (1 << 56) - 1).to_bytes(7, "big") + os.urandom(3))


def encode_id(time_ms: int, entropy: bytes) -> str:
    """Encode a time and ten bytes of entropy as a lower-case ULID."""
    number = ((time_ms & (1 << 48) - 1) << 80) | int.from_bytes(entropy, "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))


def new_hex_id() -> str:
    """Make a 32-character hexadecimal id, the form MLflow uses for runs."""
    return os.urandom(16).hex()
