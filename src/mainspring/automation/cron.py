"""Cron expressions as KFP and Vertex AI take them, and the times they name in a time zone.

Five fields (minute hour day month weekday) or six (seconds first), names of months and days, ``@daily`` and the
like, and a zone in front as Vertex writes it: ``TZ=Europe/Berlin 0 6 * * *``. Times are wall-clock times of the zone:
one that the clock skips in spring is due when the gap ends, one that it shows twice in autumn is due the first time
only. Where every hour is named, real hours count: nothing is skipped, and the doubled hour has both its turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from mainspring.core import InvalidInput

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: place for place, name in enumerate(_NAMES, 1)}
_DAYS = {name: place for place, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_SHORTHANDS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_ALL_HOURS = frozenset(range(24))
_LONGEST_YEARS = 9
"""29 February may be eight years away."""


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """The values each field allows; ``any_day`` and ``any_weekday`` say which of the two day fields was ``*``."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    time_zone: str = ""
    """The zone written in front; empty when there is none."""

    def names(self, day: date) -> bool:
        """Say whether a day is meant: by both day fields, or by either when both are restricted."""
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day and by_weekday if self.any_day or self.any_weekday else by_day or by_weekday


def parse_cron(text: str) -> Cron:
    """Read a cron expression; raise `InvalidInput` that names the field."""
    words = text.split()
    zone = ""
    if words and words[0].startswith(("TZ=", "CRON_TZ=")):
        zone = words.pop(0).partition("=")[2]
        find_zone(zone)
    if len(words) == 1 and words[0] in _SHORTHANDS:
        words = _SHORTHANDS[words[0]].split()
    if len(words) == 5:
        words = ["0", *words]
    if len(words) != 6:
        raise InvalidInput(
            f"{text!r} is not a cron expression.",
            hint="Write MINUTE HOUR DAY MONTH WEEKDAY, with seconds before or not.",
        )
    weekdays = _field(words[5], "weekday", 0, 7, _DAYS)
    return Cron(
        seconds=tuple(sorted(_field(words[0], "second", 0, 59))),
        minutes=tuple(sorted(_field(words[1], "minute", 0, 59))),
        hours=tuple(sorted(_field(words[2], "hour", 0, 23))),
        days=_field(words[3], "day", 1, 31),
        months=_field(words[4], "month", 1, 12, _MONTHS),
        weekdays=frozenset(day % 7 for day in weekdays),
        any_day=words[3] in ("*", "?"),
        any_weekday=words[5] in ("*", "?"),
        time_zone=zone,
    )


def find_zone(name: str) -> ZoneInfo:
    """Return an IANA time zone; raise `InvalidInput` when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(f"There is no time zone {name!r}.", hint="Write one like Europe/Berlin or UTC.") from error


def next_time(cron: Cron, zone: ZoneInfo, after_ms: int) -> int | None:
    """Return the first time after ``after_ms`` that the expression names in the zone; None when there is none."""
    after = datetime.fromtimestamp(after_ms / 1000, tz=UTC)
    first = after.astimezone(zone).date() - timedelta(days=1)
    every_hour = frozenset(cron.hours) == _ALL_HOURS
    for number in range(366 * _LONGEST_YEARS):
        try:
            day = first + timedelta(days=number)
        except OverflowError:
            return None
        if not cron.names(day):
            continue
        times = _real_times(cron, zone, day, after) if every_hour else _wall_times(cron, zone, day)
        found = min((moment for moment in times if moment > after), default=None)
        if found is not None:
            return round(found.timestamp() * 1000)
    return None


def _field(text: str, name: str, low: int, high: int, names: dict[str, int] | None = None) -> frozenset[int]:
    """Return the values of one field: lists, ranges, steps and names."""
    values: set[int] = set()
    for part in text.lower().split(","):
        body, slash, step_text = part.partition("/")
        start, dash, end = body.partition("-")
        try:
            step = int(step_text) if slash else 1
            if body in ("*", "?"):
                first, last = low, high if high != 7 else 6
            else:
                first = _number(start, names)
                last = _number(end, names) if dash else high if slash else first
        except (KeyError, ValueError) as error:
            raise InvalidInput(f"{text!r} is not a {name} of a cron expression.") from error
        if step < 1 or not low <= first <= last <= high:
            raise InvalidInput(f"{text!r} is not a {name} of a cron expression: they go from {low} to {high}.")
        values.update(range(first, last + 1, step))
    return frozenset(values)


def _number(text: str, names: dict[str, int] | None) -> int:
    return int(text) if text.isascii() and text.isdigit() else (names or {})[text]


def _wall_times(cron: Cron, zone: ZoneInfo, day: date) -> Iterator[datetime]:
    """Iterate over a day's times by the clock on the wall, those in a gap moved to its end."""
    for hour in cron.hours:
        for minute in cron.minutes:
            for second in cron.seconds:
                local = datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=zone)
                yield _real(local)


def _real_times(cron: Cron, zone: ZoneInfo, day: date, after: datetime) -> Iterator[datetime]:
    """Iterate over the times of a day whose minute is named, as many hours as the day really has."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    start, end = _real(midnight), _real(midnight + timedelta(days=1))
    minute = max(start, after.replace(second=0, microsecond=0))
    while minute < end:
        if minute.astimezone(zone).minute in cron.minutes:
            found = [minute + timedelta(seconds=second) for second in cron.seconds]
            yield from found
            if found[-1] > after:
                return
        minute += timedelta(minutes=1)


def _real(local: datetime) -> datetime:
    """Return the instant of a wall-clock time; the first of two, and the end of the gap for one that does not exist."""
    instant = local.replace(fold=0).astimezone(UTC)
    back = instant.astimezone(local.tzinfo)
    if back.replace(tzinfo=None) == local.replace(tzinfo=None):
        return instant
    before = local.replace(fold=1).astimezone(UTC)  # in a gap the later offset gives the earlier instant
    low, high = int(before.timestamp()), int(instant.timestamp())
    offset = before.astimezone(local.tzinfo).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, tz=UTC).astimezone(local.tzinfo).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, tz=UTC)
