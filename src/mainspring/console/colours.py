"""The eight colours of series: chosen by name, so that a run or variant keeps its colour on every page."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

COLOURS = 8
"""CSS classes ``s0`` to ``s7``; Okabe and Ito's colour-blind-safe set."""


def colour_of(name: str) -> int:
    """Return the colour of a series by its name alone."""
    return zlib.crc32(name.encode()) % COLOURS


def assign_colours(names: Iterable[str]) -> dict[str, int]:
    """Give each series its colour; when two names want the same one, the later takes the next free one.

    >>> len(set(assign_colours("abcdefgh").values()))
    8
    """
    taken: dict[str, int] = {}
    for name in dict.fromkeys(names):
        wanted = colour_of(name)
        used = set(taken.values())
        free = [(wanted + step) % COLOURS for step in range(COLOURS)]
        taken[name] = next((colour for colour in free if colour not in used), wanted)
    return taken
