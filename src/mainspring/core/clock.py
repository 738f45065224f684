"""Time, passed in.

Nothing in mainspring asks the operating system what time it is: it asks the `Clock` it was given. A
`SimulatedClock` lives in a small memory-mapped file, so every process of a project (server, scheduler,
endpoints) sees the same simulated time, and whoever drives a simulation moves it for all of them.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from mainspring.core.errors import InvalidInput


class Clock(Protocol):
    """Says what time it is, in milliseconds since the epoch (UTC)."""

    def now_ms(self) -> int:
        """Return the current time in milliseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return the machine's time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


class FixedClock:
    """A clock that stands still until it is moved: for tests, and for work that is to see one moment."""

    def __init__(self, now_ms: int = 1_356_998_400_000) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        """Return the time it was last set to."""
        return self.time_ms

    def advance(self, ms: int) -> None:
        """Move forward by ``ms`` milliseconds."""
        self.time_ms += ms


class SimulatedClock:
    """A clock in an eight-byte file that all processes of one project share."""

    _CELL = struct.Struct("<q")

    def __init__(self, path: Path, *, start_ms: int | None = None) -> None:
        if start_ms is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._CELL.pack(start_ms))
        if not path.is_file() or path.stat().st_size != self._CELL.size:
            raise InvalidInput(f"There is no simulated clock at {path}.", hint="Use clock: system, or start a replay.")
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, self._CELL.size)
        finally:
            os.close(descriptor)

    def now_ms(self) -> int:
        """Return the simulated time in milliseconds since the epoch."""
        return int(self._CELL.unpack(self._map[:])[0])

    def set_ms(self, now_ms: int) -> None:
        """Move the clock, for every process that maps it; time never runs backwards."""
        if now_ms < self.now_ms():
            raise InvalidInput(f"The simulated clock cannot go back from {self.now_ms()} to {now_ms} ms.")
        self._map[:] = self._CELL.pack(now_ms)


def open_clock(spec: str) -> Clock:
    """Open the clock a setting names: ``system`` or ``simulated:PATH``."""
    if spec == "system":
        return SystemClock()
    kind, _, path = spec.partition(":")
    if kind == "simulated" and path:
        return SimulatedClock(Path(path))
    raise InvalidInput(f"Unknown clock {spec!r}.", hint="Use 'system' or 'simulated:PATH'.")


def to_datetime(ms: int) -> datetime:
    """Turn milliseconds since the epoch into an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def to_iso(ms: int) -> str:
    """Turn milliseconds since the epoch into ISO 8601, to the second, with Z."""
    return to_datetime(ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_ms(moment: datetime) -> int:
    """Turn an aware datetime into milliseconds since the epoch."""
    if moment.tzinfo is None:
        raise InvalidInput(f"The time {moment} has no zone.", hint="Pass an aware datetime, for example in UTC.")
    return round(moment.timestamp() * 1000)
