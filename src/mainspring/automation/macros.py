"""KFP's macros in the parameters of recurring runs: ``[[ScheduledTime]]``, ``[[CurrentTime]]`` and ``[[Index]]``.

A time may be followed by a layout, written as Go does with the parts of its reference time:
``[[ScheduledTime.2006-01-02]]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from mainspring.core import to_datetime

_MACRO = re.compile(r"\[\[(ScheduledTime|CurrentTime|Index)(?:\.(.+?))?\]\]")
_LAYOUT = "20060102150405"
_PARTS = {
    "2006": "%Y", "January": "%B", "Jan": "%b", "Monday": "%A", "Mon": "%a", "MST": "UTC", "Z07:00": "Z",
    "-07:00": "+00:00", "-0700": "+0000", "002": "%j", "01": "%m", "02": "%d", "03": "%I", "04": "%M", "05": "%S",
    "06": "%y", "15": "%H", "PM": "%p",
}  # fmt: skip
"""Go's parts of a layout and what writes them; times are in UTC, as the API server has them."""
_PART = re.compile("|".join(re.escape(part) for part in _PARTS))


class Macros(msgspec.Struct, frozen=True, kw_only=True):
    """What the macros stand for in one run; times in milliseconds, ``index`` counts the runs of a schedule from 1."""

    due_at: int
    now: int
    index: int

    def fill(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the macros in the texts of a JSON object, at every depth; what is no macro stays."""
        return {name: self._fill(value) for name, value in parameters.items()}

    def _fill(self, value: object) -> object:
        if isinstance(value, dict):
            return self.fill(value)
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        return _MACRO.sub(self._write, value) if isinstance(value, str) else value

    def _write(self, macro: re.Match[str]) -> str:
        name, layout = macro.groups()
        if name == "Index":
            return macro[0] if layout else str(self.index)
        return format_time(to_datetime(self.due_at if name == "ScheduledTime" else self.now), layout or _LAYOUT)


def format_time(moment: datetime, layout: str) -> str:
    """Write a time in a layout of Go.

    >>> from datetime import UTC
    >>> format_time(datetime(2026, 3, 29, 6, 5, tzinfo=UTC), "Mon 02 Jan 2006, 15:04")
    'Sun 29 Mar 2026, 06:05'
    """
    return _PART.sub(lambda part: moment.strftime(_PARTS[part[0]]), layout)
