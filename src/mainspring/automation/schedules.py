"""Schedules: when runs are due. A pure decision from the schedule, the last time dealt with, and the time it is."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from mainspring.automation.cron import Cron, find_zone, next_time, parse_cron
from mainspring.core import InvalidInput

_EVERY = re.compile(r"@every\s+(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_MOST_AT_ONCE = 100
_MOST_COUNTED = 1_000
_LONGEST_INTERVAL_S = 100 * 366 * 24 * 3600
_END_OF_TIME = 253_402_300_800_000
"""The year 10000, in which no calendar of ours can write a time."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something is due: at the times of a cron expression, or every so many seconds."""

    cron: str = ""
    interval_s: int = 0
    time_zone: str = "UTC"
    """IANA name; a zone written in the expression itself wins."""
    start_ms: int | None = None
    """Nothing is due before. Intervals count from here."""
    end_ms: int | None = None
    """Nothing is due at this time or after."""
    catch_up: bool = True
    """Whether times that were missed are made up for, one run each; else only the newest of them is."""
    max_concurrent: int = 1
    """So many runs at the same time; what is due meanwhile waits."""
    max_runs: int | None = None


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now."""

    fire: tuple[int, ...] = ()
    """Times to start a run for, oldest first."""
    missed: int = 0
    """Times that no run will be started for, counted up to a thousand."""
    last: int
    """The last time that is dealt with now: the next decision starts from it."""
    next: int | None = None
    """When something is due again; None when nothing ever is."""


def check_schedule(schedule: Schedule) -> Schedule:
    """Return the schedule; raise `InvalidInput` that names what is wrong with it."""
    if bool(schedule.cron) == bool(schedule.interval_s):
        raise InvalidInput("A schedule has either a cron expression or an interval.", hint="Write one of the two.")
    if schedule.interval_s < 0:
        raise InvalidInput(f"An interval of {schedule.interval_s} s is not possible.", hint="Write a positive number.")
    if _seconds_of(schedule) > _LONGEST_INTERVAL_S:
        raise InvalidInput("The interval of the schedule is longer than a hundred years.", hint="Write a shorter one.")
    if schedule.max_concurrent < 1 or (schedule.max_runs is not None and schedule.max_runs < 1):
        raise InvalidInput("A schedule needs at least one run at a time, and one in all.")
    if schedule.start_ms is not None and schedule.end_ms is not None and schedule.end_ms <= schedule.start_ms:
        raise InvalidInput("The schedule ends before it starts.")
    find_zone(schedule.time_zone)
    if schedule.cron and not _interval_of(schedule.cron):
        parse_cron(schedule.cron)
    return schedule


def due(schedule: Schedule, last: int, now: int, *, running: int = 0, started: int = 0) -> Due:
    """Decide what is due in (``last``, ``now``]; ``last`` is when the schedule was made when nothing ever was.

    ``running`` runs of it go on, ``started`` it has had in all. What finds no room now is due in the next decision.
    """
    if schedule.max_runs is not None and started >= schedule.max_runs:
        return Due(last=now, next=None)
    room = max(0, schedule.max_concurrent - running)
    if schedule.max_runs is not None:
        room = min(room, schedule.max_runs - started)
    if not schedule.catch_up:
        return _newest(schedule, last, now, room)
    fire: list[int] = []
    reached, upcoming = last, next_due(schedule, last)
    while upcoming is not None and upcoming <= now and len(fire) < min(room, _MOST_AT_ONCE):
        fire.append(upcoming)
        reached, upcoming = upcoming, next_due(schedule, upcoming)
    return Due(fire=tuple(fire), last=reached, next=upcoming)


def next_due(schedule: Schedule, after: int) -> int | None:
    """Return the first time after ``after`` at which something is due; None when nothing is any more."""
    if schedule.start_ms is not None:
        after = max(after, schedule.start_ms - 1)
    seconds = _seconds_of(schedule)
    if seconds:
        step, origin = seconds * 1000, schedule.start_ms or 0
        found: int | None = (
            after + step if schedule.start_ms is None else origin + ((after - origin) // step + 1) * step
        )
    else:
        cron = _parsed(schedule.cron)
        found = next_time(cron, find_zone(cron.time_zone or schedule.time_zone), after)
    end = _END_OF_TIME if schedule.end_ms is None else min(schedule.end_ms, _END_OF_TIME)
    return None if found is None or found >= end else found


def _newest(schedule: Schedule, last: int, now: int, room: int) -> Due:
    """Decide without catching up: of all that was missed only the newest counts, however much that is."""
    first = next_due(schedule, last)
    if first is None or first > now:
        return Due(last=last, next=first)
    newest = _last_due(schedule, first, now)
    if not room:
        return Due(last=last, next=newest)
    missed, at = 0, first
    while at < newest and missed < _MOST_COUNTED:
        missed, at = missed + 1, next_due(schedule, at) or newest
    return Due(fire=(newest,), missed=missed, last=newest, next=next_due(schedule, newest))


def _last_due(schedule: Schedule, first: int, now: int) -> int:
    """Return the last time up to ``now`` at which something is due; ``first`` is one.

    Intervals are counted. For a cron expression: from any moment before the time looked for the next due time is not
    after now, from it on it is, so it is found by halving.
    """
    seconds = _seconds_of(schedule)
    if seconds:
        reached = now if schedule.end_ms is None else min(now, schedule.end_ms - 1)
        return first + (reached - first) // (seconds * 1000) * seconds * 1000
    low, high = first - 1, now
    while high - low > 1:
        middle = (low + high) // 2
        upcoming = next_due(schedule, middle)
        if upcoming is not None and upcoming <= now:
            low = middle
        else:
            high = middle
    return high


def _seconds_of(schedule: Schedule) -> int:
    """Return the seconds of an interval, however it is written; 0 for times of the calendar."""
    return schedule.interval_s or _interval_of(schedule.cron)


def _interval_of(cron: str) -> int:
    """Return the seconds of ``@every 1h30m``; 0 when it is not of that form."""
    match = _EVERY.fullmatch(cron.strip())
    if match is None:
        return 0
    hours, minutes, seconds = (int(found or 0) for found in match.groups())
    return hours * 3600 + minutes * 60 + seconds


@lru_cache(maxsize=256)
def _parsed(cron: str) -> Cron:
    return parse_cron(cron)
