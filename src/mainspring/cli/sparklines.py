"""A metric's history as one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Draw values from left to right, ``width`` characters at most; what is not finite is a gap.

    >>> sparkline([0, 1, 2, 3])
    '▁▃▆█'
    """
    shown = [_mean(part) for part in _parts(values, width)]
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return " " * len(shown)
    low, span = min(finite), max(finite) - min(finite)
    if not math.isfinite(span):  # the values themselves are finite, their distance is not
        low, span, shown = low / 2, max(finite) / 2 - low / 2, [value / 2 for value in shown]
    return "".join(_bar((value - low) / span if span else 0.5) for value in shown)


def _bar(share: float) -> str:
    return BARS[min(int(share * len(BARS)), len(BARS) - 1)] if math.isfinite(share) else " "


def _parts(values: Sequence[float], width: int) -> list[Sequence[float]]:
    """Split into at most ``width`` parts of nearly the same length."""
    count = min(width, len(values))
    return [values[len(values) * n // count : len(values) * (n + 1) // count] for n in range(count)]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(value / len(finite) for value in finite) if finite else math.nan
