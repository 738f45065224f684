"""What the peers share: how they time and what they print."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable


def median_ms(work: Callable[[int], object], repeat: int, *, warms_up: bool = True) -> float:
    """Return the median wall time of ``work(index)``; one call before it warms up, unless there is nothing to warm."""
    if warms_up:
        work(-1)
    samples = []
    for index in range(repeat):
        began = time.perf_counter()
        work(index)
        samples.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(samples), 1)


def report(results: dict[str, float]) -> None:
    """Print the one JSON object that compare.py reads, as the last line."""
    print(json.dumps({name: {"wall_ms": value} for name, value in results.items()}))
