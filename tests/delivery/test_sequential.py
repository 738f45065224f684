from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.delivery import bet_on_positive_mean, event_log_evidence

ALPHA = 0.05


@given(st.lists(st.floats(-2, 2), max_size=40))
def test_the_evidence_is_the_product_of_stakes_chosen_from_the_past_only(values):
    log_e, peak, peak_at, past = 0.0, 0.0, 0, []
    for number, value in enumerate(values, start=1):
        x = min(max(value, -1.0), 1.0)
        stake = sum(past) / (sum(p * p for p in past) + 1.0)
        log_e += math.log1p(min(max(stake, 0.0), 0.5) * x)
        if log_e > peak + 1e-12:
            peak, peak_at = log_e, number
        past.append(x)
    found = bet_on_positive_mean(values)
    assert found.log_e == pytest.approx(log_e, abs=1e-9)
    assert found.peak_log_e == pytest.approx(peak, abs=1e-9)
    assert found.n == len(values)
    assert found.peak_at == peak_at or found.peak_log_e == pytest.approx(peak, abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.lists(st.floats(-1, 1), max_size=10))
def test_more_rows_never_take_an_alarm_back(values, more):
    assert bet_on_positive_mean(values + more).peak_log_e >= bet_on_positive_mean(values).peak_log_e - 1e-12


def test_equal_variants_raise_hardly_ever_a_false_alarm_although_one_looks_after_every_row():
    random = np.random.default_rng(0)
    alarms = sum(bet_on_positive_mean(random.normal(0, 0.25, 3000)).fires(ALPHA) for _ in range(300))
    assert alarms <= 300 * ALPHA


def test_a_z_test_after_every_row_would_have_raised_many():
    random = np.random.default_rng(0)
    n = np.arange(1, 3001)
    alarms = sum((np.cumsum(random.normal(0, 0.25, 3000)) / (0.25 * np.sqrt(n)) > 1.645)[50:].any() for _ in range(300))
    assert alarms > 0.3 * 300


@pytest.mark.parametrize(("gain", "rows", "share"), [(0.03, 2000, 0.98), (0.01, 20_000, 0.9)])
def test_a_real_gain_is_found(gain, rows, share):
    random = np.random.default_rng(1)
    found = [bet_on_positive_mean(random.normal(gain, 0.25, rows)) for _ in range(100)]
    assert np.mean([evidence.fires(ALPHA) for evidence in found]) >= share


def test_a_long_certain_stream_does_not_overflow():
    found = bet_on_positive_mean(np.full(100_000, 0.9))
    assert math.isfinite(found.log_e)
    assert found.log_e > 30_000


def test_without_rows_there_is_no_evidence():
    found = bet_on_positive_mean([])
    assert (found.n, found.log_e, found.peak_log_e, found.fires(ALPHA)) == (0, 0.0, 0.0, False)


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [[0.1]]])
def test_what_is_not_a_row_of_numbers_is_refused(values):
    with pytest.raises(InvalidInput):
        bet_on_positive_mean(values)


def test_event_evidence_starts_at_nothing():
    assert event_log_evidence(0, 0, 0.2) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.01, 0.1, 0.2, 0.5, 0.9]))
@settings(deadline=None)
def test_event_evidence_is_the_integral_it_stands_for(canary, other, share):
    a, b = 20 * share, 20 * (1 - share)
    p = np.linspace(share, 1, 200_001)[1:-1]
    prior = (a - 1) * np.log(p) + (b - 1) * np.log1p(-p)
    ratio = canary * np.log(p / share) + other * np.log((1 - p) / (1 - share))

    def log_integral(values):
        top = values.max()
        return top + math.log(np.exp(values - top).sum())

    # The grid misses a little where the density has a pole at 1.
    expected = log_integral(prior + ratio) - log_integral(prior)
    assert event_log_evidence(canary, other, share) == pytest.approx(expected, abs=0.15 if b < 1 else 0.02)


@given(st.integers(0, 50_000), st.integers(0, 50_000), st.floats(0.01, 0.99))
def test_event_evidence_is_finite_and_grows_with_the_events_of_the_canary(canary, other, share):
    found = event_log_evidence(canary, other, share)
    assert math.isfinite(found)
    assert event_log_evidence(canary + 1, other, share) >= found - 1e-6


def test_event_evidence_agrees_with_scipy():
    special = pytest.importorskip("scipy.special")
    for canary, other, share in [(3, 5, 0.2), (40, 60, 0.2), (0, 100, 0.1), (500, 600, 0.5), (7, 90, 0.05)]:
        a, b = 20 * share, 20 * (1 - share)
        expected = (
            special.betaln(a + canary, b + other) - special.betaln(a, b)
            - canary * math.log(share) - other * math.log(1 - share)
            + math.log(special.betaincc(a + canary, b + other, share)) - math.log(special.betaincc(a, b, share))
        )  # fmt: skip
        assert event_log_evidence(canary, other, share) == pytest.approx(expected, abs=1e-9)


def test_a_canary_with_as_many_errors_as_its_share_hardly_ever_alarms_at_any_look():
    random = np.random.default_rng(2)
    alarms = 0
    for _ in range(300):
        in_canary = np.cumsum(random.random(200) < 0.2)
        looks = range(9, 200, 10)
        alarms += any(
            event_log_evidence(int(in_canary[i]), i + 1 - int(in_canary[i]), 0.2) >= -math.log(ALPHA) for i in looks
        )
    assert alarms <= 300 * ALPHA


def test_a_canary_with_three_times_the_errors_is_found():
    random = np.random.default_rng(3)
    share = 0.2 * 3 / (0.2 * 3 + 0.8)
    found = [event_log_evidence(int(c), 150 - int(c), 0.2) for c in random.binomial(150, share, 100)]
    assert np.mean(np.array(found) >= -math.log(ALPHA)) > 0.95


@pytest.mark.parametrize(("canary", "other", "share"), [(-1, 0, 0.2), (0, -1, 0.2), (0, 0, 0.0), (0, 0, 1.0)])
def test_impossible_counts_are_refused(canary, other, share):
    with pytest.raises(InvalidInput):
        event_log_evidence(canary, other, share)
