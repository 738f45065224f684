"""What every page has: a title, a place in the navigation, and the same answer outside the browser."""

from __future__ import annotations

from typing import Literal

import msgspec

from mainspring.core import Clock, SimulatedClock

Section = Literal["overview", "runs", "models", "endpoints", "monitors", "events", ""]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The frame of a page; ``now`` is the store's time, the one ages are counted from."""

    title: str
    section: Section
    now: int
    simulated: bool
    command: str = ""
    """The command that gives the same answer."""
    python: str = ""
    """The Python line that gives the same answer."""
    live: bool = False
    """Whether the page follows the stream of events."""


def head_of(
    clock: Clock, title: str, section: Section, *, command: str = "", python: str = "", live: bool = False
) -> Head:
    """Make the head of a page at the clock's time."""
    simulated = isinstance(clock, SimulatedClock)
    return Head(
        title=title,
        section=section,
        now=clock.now_ms(),
        simulated=simulated,
        command=command,
        python=python,
        live=live,
    )
