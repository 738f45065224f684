from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.monitoring import Window, due_windows

times = st.integers(0, 10**6)


def test_a_window_is_due_when_it_is_over_and_its_labels_had_time_to_arrive():
    due = {"start_ms": 100, "window_ms": 10, "last_end_ms": None, "delay_ms": 3}
    assert due_windows(now_ms=112, **due) == []
    assert due_windows(now_ms=113, **due) == [Window(start=100, end=110)]
    assert due_windows(now_ms=134, **due) == [Window(start=s, end=s + 10) for s in (100, 110, 120)]


def test_measured_windows_are_not_due_again():
    assert due_windows(start_ms=100, window_ms=10, last_end_ms=120, now_ms=130, delay_ms=0) == [
        Window(start=120, end=130)
    ]
    assert due_windows(start_ms=100, window_ms=10, last_end_ms=130, now_ms=130, delay_ms=0) == []


def test_nothing_is_due_before_the_start():
    assert due_windows(start_ms=100, window_ms=10, last_end_ms=None, now_ms=5, delay_ms=0) == []


@pytest.mark.parametrize(("window", "delay"), [(0, 0), (-1, 0), (10, -1)])
def test_windows_without_length_and_negative_delays_are_refused(window, delay):
    with pytest.raises(InvalidInput):
        due_windows(start_ms=0, window_ms=window, last_end_ms=None, now_ms=5, delay_ms=delay)


@given(
    start=times,
    window=st.integers(1, 1000),
    steps=st.lists(st.integers(0, 5000), max_size=8),
    delay=st.integers(0, 3000),
)
def test_however_often_one_looks_every_window_comes_exactly_once_and_in_order(start, window, steps, delay):
    now, last, seen = start, None, []
    for step in steps:
        now += step
        due = due_windows(start_ms=start, window_ms=window, last_end_ms=last, now_ms=now, delay_ms=delay)
        seen += due
        last = due[-1].end if due else last
    count = max(0, (now - delay - start) // window)
    assert seen == [Window(start=start + i * window, end=start + (i + 1) * window) for i in range(count)]
