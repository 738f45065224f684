from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import (
    FixedClock,
    InvalidInput,
    SimulatedClock,
    encode_id,
    new_id,
    open_clock,
    to_datetime,
    to_iso,
    to_ms,
)


def test_a_simulated_clock_is_shared_by_processes(tmp_path: Path) -> None:
    clock = SimulatedClock(tmp_path / "clock", start_ms=1000)
    code = f"from mainspring.core import open_clock; print(open_clock('simulated:{tmp_path}/clock').now_ms())"
    clock.set_ms(2000)
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "2000"


def test_simulated_time_never_runs_backwards(tmp_path: Path) -> None:
    clock = SimulatedClock(tmp_path / "clock", start_ms=1000)
    with pytest.raises(InvalidInput, match="cannot go back"):
        clock.set_ms(999)


def test_a_missing_or_unknown_clock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no simulated clock"):
        open_clock(f"simulated:{tmp_path}/none")
    with pytest.raises(InvalidInput, match="Unknown clock 'sundial'"):
        open_clock("sundial")


@given(st.integers(0, 4_000_000_000_000))
def test_times_survive_the_round_trip(ms: int) -> None:
    assert to_ms(to_datetime(ms)) == ms


def test_iso_times_are_utc() -> None:
    assert to_iso(1_356_998_400_000) == "2013-01-01T00:00:00Z"


@given(st.lists(st.tuples(st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10)), min_size=2, unique=True))
def test_ids_sort_by_time_and_are_unique(keys: list[tuple[int, bytes]]) -> None:
    assert [encode_id(*key) for key in sorted(keys)] == sorted({encode_id(*key) for key in keys})


def test_an_id_has_26_safe_characters() -> None:
    id = new_id(FixedClock())
    assert len(id) == 26
    assert id.isalnum()
    assert id.islower() or not any(c.isalpha() for c in id)
