"""When runs are due: cron, zones, daylight saving, intervals, catching up, concurrency. All pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.automation.cron import next_time, parse_cron
from mainspring.automation.schedules import Due, Schedule, check_schedule, due, next_due
from mainspring.core import InvalidInput

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def ms(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def text(found):
    return datetime.fromtimestamp(found / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def upcoming(cron, zone, after, count=3):
    found, at = [], ms(after)
    for _ in range(count):
        at = next_time(parse_cron(cron), zone, at)
        found.append(text(at))
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 6 * * *", ["2026-01-01T06:00:00", "2026-01-02T06:00:00", "2026-01-03T06:00:00"]),
        ("30 0 6 * * *", ["2026-01-01T06:00:30", "2026-01-02T06:00:30", "2026-01-03T06:00:30"]),
        ("*/20 * * * *", ["2026-01-01T00:20:00", "2026-01-01T00:40:00", "2026-01-01T01:00:00"]),
        ("*/30 * * * * *", ["2026-01-01T00:00:30", "2026-01-01T00:01:00", "2026-01-01T00:01:30"]),
        ("0 9-17/4 * * MON-FRI", ["2026-01-01T09:00:00", "2026-01-01T13:00:00", "2026-01-01T17:00:00"]),
        ("0 0 1,15 * *", ["2026-01-15T00:00:00", "2026-02-01T00:00:00", "2026-02-15T00:00:00"]),
        ("0 0 13 * FRI", ["2026-01-02T00:00:00", "2026-01-09T00:00:00", "2026-01-13T00:00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00", "2032-02-29T00:00:00", "2036-02-29T00:00:00"]),
        ("0 0 * * 7", ["2026-01-04T00:00:00", "2026-01-11T00:00:00", "2026-01-18T00:00:00"]),
        ("@weekly", ["2026-01-04T00:00:00", "2026-01-11T00:00:00", "2026-01-18T00:00:00"]),
        ("0 0 ? jan,DEC sun", ["2026-01-04T00:00:00", "2026-01-11T00:00:00", "2026-01-18T00:00:00"]),
    ],
)
def test_the_times_of_an_expression(cron, expected):
    assert upcoming(cron, ZoneInfo("UTC"), "2026-01-01T00:00:00") == expected


def test_a_time_of_the_wall_clock_moves_with_daylight_saving():
    assert upcoming("0 6 * * *", BERLIN, "2026-03-27T12:00:00") == [
        "2026-03-28T05:00:00", "2026-03-29T04:00:00", "2026-03-30T04:00:00",
    ]  # fmt: skip


def test_a_time_that_spring_skips_is_due_when_the_gap_ends():
    assert upcoming("30 2 * * *", BERLIN, "2026-03-28T12:00:00", 2) == ["2026-03-29T01:00:00", "2026-03-30T00:30:00"]
    assert upcoming("0,15,30,45 2 * * *", BERLIN, "2026-03-28T12:00:00", 2) == [
        "2026-03-29T01:00:00", "2026-03-30T00:00:00",
    ]  # fmt: skip


def test_a_time_that_autumn_shows_twice_is_due_once():
    assert upcoming("30 1 * * *", NEW_YORK, "2026-10-31T12:00:00", 2) == ["2026-11-01T05:30:00", "2026-11-02T06:30:00"]


def test_every_hour_means_every_real_hour():
    assert upcoming("30 * * * *", NEW_YORK, "2026-11-01T04:45:00") == [
        "2026-11-01T05:30:00", "2026-11-01T06:30:00", "2026-11-01T07:30:00",
    ]  # fmt: skip
    assert upcoming("0 * * * *", BERLIN, "2026-03-29T00:00:00", 2) == ["2026-03-29T01:00:00", "2026-03-29T02:00:00"]


def test_a_zone_in_front_wins():
    schedule = Schedule(cron="TZ=America/New_York 0 6 * * *", time_zone="Europe/Berlin")
    assert text(next_due(schedule, ms("2026-01-01T00:00:00"))) == "2026-01-01T11:00:00"


@pytest.mark.parametrize(
    "cron",
    ["", "x", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *",
     "5-1 * * * *", "a * * * *", "* * L * *", "1,,2 * * * *", "TZ=Mars/Base 0 0 * * *", "@sometimes", "٣ * * * *"],
)  # fmt: skip
def test_what_is_no_expression_is_a_clear_error(cron):
    with pytest.raises(InvalidInput):
        parse_cron(cron)


def brute(cron, after):
    moment = datetime.fromtimestamp(after / 1000, tz=UTC).replace(second=0) + timedelta(minutes=1)
    while moment.year < 2030:
        if not cron.names(moment.date()):
            moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            continue
        if cron.names(moment.date()) and moment.hour in cron.hours and moment.minute in cron.minutes:
            return round(moment.timestamp() * 1000)
        moment += timedelta(minutes=1)
    return None


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/7", "5,50", "30-40"]),
    st.sampled_from(["*", "0", "*/5", "3,22", "9-11"]),
    st.sampled_from(["*", "1", "*/9", "10-20"]),
    st.just("*"),
    st.sampled_from(["*", "0", "1-5", "sat"]),
)


@settings(max_examples=40, deadline=None)
@given(FIELDS, st.integers(ms("2026-01-01T00:00:00") // 60_000, ms("2027-01-01T00:00:00") // 60_000))
def test_in_utc_the_next_time_is_what_trying_every_minute_finds(fields, minute):
    cron = parse_cron(" ".join(fields))
    assert next_time(cron, ZoneInfo("UTC"), minute * 60_000) == brute(cron, minute * 60_000)


ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])


@settings(max_examples=60, deadline=None)
@given(FIELDS, ZONES, st.integers(ms("2026-01-01T00:00:00"), ms("2027-01-01T00:00:00")))
def test_in_any_zone_time_moves_on_and_the_wall_clock_shows_a_named_minute_or_the_end_of_a_gap(fields, zone, at):
    cron, found = parse_cron(" ".join(fields)), at
    for _ in range(5):
        later = next_time(cron, ZoneInfo(zone), found)
        assert later > found
        found = later
        local = datetime.fromtimestamp(found / 1000, tz=ZoneInfo(zone))
        before = datetime.fromtimestamp(found / 1000 - 1, tz=ZoneInfo(zone))
        is_end_of_gap = local.utcoffset() > before.utcoffset()
        assert is_end_of_gap or (local.minute in cron.minutes and local.hour in cron.hours and cron.names(local.date()))


HOURLY = Schedule(cron="0 * * * *", max_concurrent=10)
START = ms("2026-01-01T00:00:00")
HOUR = 3_600_000


def test_nothing_is_due_before_its_time():
    assert due(HOURLY, START, START + HOUR - 1) == Due(last=START, next=START + HOUR)


def test_missed_times_are_made_up_for_one_by_one():
    found = due(HOURLY, START, START + 3 * HOUR + 5)
    assert found == Due(fire=tuple(START + n * HOUR for n in (1, 2, 3)), last=START + 3 * HOUR, next=START + 4 * HOUR)


def test_without_catching_up_only_the_newest_counts():
    schedule = Schedule(cron="0 * * * *", catch_up=False)
    found = due(schedule, START, START + 3 * HOUR + 5)
    assert found == Due(fire=(START + 3 * HOUR,), missed=2, last=START + 3 * HOUR, next=START + 4 * HOUR)


@pytest.mark.parametrize(
    ("changes", "newest", "missed"),
    [
        ({"interval_s": 1}, 40 * 24 * HOUR, 1000),
        ({"interval_s": 7, "start_ms": START + 3}, 40 * 24 * HOUR - 1997, 1000),
        ({"cron": "@every 1h"}, 40 * 24 * HOUR, 959),
        ({"cron": "*/5 * * * *"}, 40 * 24 * HOUR, 1000),
        ({"cron": "0 6 * * *", "time_zone": "Europe/Berlin"}, 39 * 24 * HOUR + 5 * HOUR, 39),
        ({"interval_s": 60, "end_ms": START + 90_000}, 60_000, 0),
    ],
)
def test_however_much_was_missed_the_one_run_is_for_the_newest_time(changes, newest, missed):
    now = START + 40 * 24 * HOUR + 500
    found = due(Schedule(catch_up=False, **changes), START, now)
    assert (found.fire, found.missed, found.last) == ((START + newest,), missed, START + newest)
    assert found.next is None or found.next > now
    assert due(Schedule(catch_up=False, **changes), found.last, now).fire == ()


def test_what_lies_beyond_the_calendar_is_never_due():
    assert next_due(Schedule(interval_s=50 * 366 * 24 * 3600), ms("9999-01-01T00:00:00")) is None
    assert next_due(Schedule(cron="0 0 1 1 *"), ms("9999-06-01T00:00:00")) is None


def test_what_finds_no_room_waits():
    found = due(HOURLY, START, START + 3 * HOUR, running=9)
    assert found.fire == (START + HOUR,)
    again = due(HOURLY, found.last, START + 3 * HOUR, running=10)
    assert again == Due(last=START + HOUR, next=START + 2 * HOUR)
    assert due(HOURLY, again.last, START + 3 * HOUR, running=0).fire == (START + 2 * HOUR, START + 3 * HOUR)


def test_without_catching_up_and_without_room_the_newest_waits():
    schedule = Schedule(cron="0 * * * *", catch_up=False)
    found = due(schedule, START, START + 2 * HOUR, running=1)
    assert found == Due(last=START, next=START + 2 * HOUR)


def test_intervals_count_from_the_start():
    schedule = Schedule(interval_s=600, start_ms=START + 1000, max_concurrent=9)
    assert due(schedule, START - HOUR, START + 1000).fire == (START + 1000,)
    assert due(schedule, START + 1000, START + 1_300_000).fire == (START + 601_000, START + 1_201_000)
    assert next_due(Schedule(interval_s=600), START) == START + 600_000
    assert next_due(Schedule(cron="@every 1h30m"), START) == START + HOUR + HOUR // 2


def test_a_schedule_has_a_start_and_an_end():
    schedule = Schedule(cron="0 * * * *", start_ms=START + HOUR, end_ms=START + 3 * HOUR, max_concurrent=9)
    found = due(schedule, START - 9 * HOUR, START + 9 * HOUR)
    assert found == Due(fire=(START + HOUR, START + 2 * HOUR), last=START + 2 * HOUR, next=None)


def test_a_schedule_may_have_a_number_of_runs():
    schedule = Schedule(cron="0 * * * *", max_runs=3, max_concurrent=9)
    assert len(due(schedule, START, START + 9 * HOUR, started=1).fire) == 2
    assert due(schedule, START, START + 9 * HOUR, started=3).next is None


@pytest.mark.parametrize(
    "changes",
    [{}, {"cron": "* * * * *", "interval_s": 5}, {"interval_s": -1}, {"cron": "x"}, {"interval_s": 5, "max_runs": 0},
     {"interval_s": 5, "max_concurrent": 0}, {"interval_s": 5, "time_zone": "Nowhere/At_All"},
     {"interval_s": 5, "start_ms": 5, "end_ms": 5}, {"interval_s": 10**18}, {"cron": "@every 99999999h"}],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_refused(changes):
    with pytest.raises(InvalidInput):
        check_schedule(Schedule(**changes))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5 * HOUR), min_size=1, max_size=12),
    st.booleans(),
    st.sampled_from(["*/17 * * * *", "0 */2 * * *"]),
    st.integers(1, 3),
)
def test_no_time_is_fired_twice_and_with_catching_up_none_is_lost(steps, catch_up, cron, room):
    schedule = Schedule(cron=cron, catch_up=catch_up, max_concurrent=room)
    last = now = START
    fired = []
    for step in steps:
        now += step
        found = due(schedule, last, now)
        fired += found.fire
        last = found.last
    while found := due(schedule, last, now):
        fired += found.fire
        last = found.last
        if not found.fire:
            break
    assert fired == sorted(set(fired))
    assert all(at <= now for at in fired)
    if catch_up:
        every, at = [], START
        while (at := next_due(schedule, at)) <= now:
            every.append(at)
        assert fired == every
