"""Which windows of time have to be measured now."""

from __future__ import annotations

import msgspec

from mainspring.core import InvalidInput


class Window(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A span of time, ``start`` included and ``end`` excluded (ms UTC)."""

    start: int
    end: int


def due_windows(*, start_ms: int, window_ms: int, last_end_ms: int | None, now_ms: int, delay_ms: int) -> list[Window]:
    """Return the windows that are over for at least ``delay_ms`` and not measured yet, oldest first.

    Windows lie side by side from ``start_ms`` on; ``last_end_ms`` is the end of the last one measured.
    """
    if window_ms <= 0 or delay_ms < 0:
        raise InvalidInput(f"A window of {window_ms} ms with a delay of {delay_ms} ms makes no sense.")
    done = 0 if last_end_ms is None else max(0, (last_end_ms - start_ms) // window_ms)
    complete = (now_ms - delay_ms - start_ms) // window_ms
    return [
        Window(start=start_ms + index * window_ms, end=start_ms + (index + 1) * window_ms)
        for index in range(done, complete)
    ]
