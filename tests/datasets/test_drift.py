from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.datasets import ColumnDrift, measure_drift, profile_frame


def drift_of(before: pl.DataFrame, now: pl.DataFrame, column: str = "x") -> ColumnDrift:
    reference = profile_frame(before)
    drifts = measure_drift(reference, profile_frame(now, reference=reference))
    return next(drift for drift in drifts if drift.column == column)


def exact_ks(one: np.ndarray, two: np.ndarray) -> float:
    values = np.concatenate([one, two])
    return float(
        np.abs(
            np.searchsorted(np.sort(one), values, side="right") / len(one)
            - np.searchsorted(np.sort(two), values, side="right") / len(two)
        ).max()
    )


samples = st.lists(st.integers(-20, 20).map(float) | st.floats(-100, 100), min_size=1, max_size=80)
words = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=80)


@given(samples | words)
def test_a_table_has_not_moved_from_itself(values: list[float] | list[str]) -> None:
    frame = pl.DataFrame({"x": values})
    drift = drift_of(frame, frame)
    for measure in (drift.psi, drift.ks, drift.jensen_shannon, drift.l_infinity, drift.new_share, drift.null_delta):
        assert measure is None or measure == pytest.approx(0, abs=1e-12)


@given(samples, samples)
def test_numeric_measures_are_in_their_ranges_and_ks_is_exact_on_few_values(one: list[float], two: list[float]) -> None:
    drift = drift_of(pl.DataFrame({"x": one}), pl.DataFrame({"x": two}))
    assert drift.psi is not None
    assert drift.psi >= 0
    assert drift.jensen_shannon is not None
    assert 0 <= drift.jensen_shannon <= 1
    assert drift.ks is not None
    exact = exact_ks(np.array(one), np.array(two))
    assert drift.ks <= exact + 1e-12  # at the knots only
    assert drift.ks >= exact - 1 / len(set(one)) - 1e-12


@given(words, words)
def test_categorical_measures_are_in_their_ranges(one: list[str], two: list[str]) -> None:
    drift = drift_of(pl.DataFrame({"x": one}), pl.DataFrame({"x": two}))
    shares = [abs(one.count(word) / len(one) - two.count(word) / len(two)) for word in set(one) | set(two)]
    assert drift.psi is not None
    assert drift.psi >= 0
    assert drift.jensen_shannon is not None
    assert 0 <= drift.jensen_shannon <= 1
    assert drift.l_infinity == pytest.approx(max(shares))
    assert drift.new_share == pytest.approx(sum(word not in one for word in two) / len(two))


@given(samples, samples, samples, words, words)
def test_distances_are_symmetric_on_a_shared_reference(
    base: list[float], one: list[float], two: list[float], left: list[str], right: list[str]
) -> None:
    knots = profile_frame(pl.DataFrame({"x": base}))
    a, b = (profile_frame(pl.DataFrame({"x": values}), reference=knots) for values in (one, two))
    (there,), (back,) = measure_drift(a, b), measure_drift(b, a)
    assert there.ks == pytest.approx(back.ks)
    assert there.jensen_shannon == pytest.approx(back.jensen_shannon)
    c, d = (profile_frame(pl.DataFrame({"x": values})) for values in (left, right))
    (there,), (back,) = measure_drift(c, d), measure_drift(d, c)
    assert there.l_infinity == pytest.approx(back.l_infinity)
    assert there.jensen_shannon == pytest.approx(back.jensen_shannon)


@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("family", ["normal", "lognormal", "zeros"])
def test_ks_from_profiles_is_close_to_the_exact_one(family: str, shift: float) -> None:
    random = np.random.default_rng(7)
    one, two = random.normal(size=20_000), random.normal(shift, size=5_000)
    if family == "lognormal":
        one, two = np.exp(one), np.exp(two)
    if family == "zeros":
        one, two = np.maximum(one, 0), np.maximum(two, 0)
    drift = drift_of(pl.DataFrame({"x": one}), pl.DataFrame({"x": two}))
    assert drift.ks == pytest.approx(exact_ks(one, two), abs=0.005)


def test_psi_grows_with_the_shift_and_is_near_its_closed_form() -> None:
    random = np.random.default_rng(7)
    base = pl.DataFrame({"x": random.normal(size=50_000)})
    found = [drift_of(base, pl.DataFrame({"x": random.normal(shift, size=50_000)})).psi for shift in (0, 0.25, 0.5)]
    assert found[0] is not None
    assert found[0] < 0.001
    assert found[1] == pytest.approx(0.25**2, rel=0.15)  # two normals' symmetric divergence, a little less in bins
    assert found[2] == pytest.approx(0.5**2, rel=0.15)


def test_a_constant_that_becomes_another_constant_is_seen_in_both_directions() -> None:
    for other in (4, 6):
        drift = drift_of(pl.DataFrame({"x": [5] * 1000}), pl.DataFrame({"x": [other] * 1000}))
        assert drift.ks == 1
        assert drift.jensen_shannon == pytest.approx(1)
        assert drift.psi is not None
        assert drift.psi > 5


def test_nulls_are_measured_apart_and_columns_without_values_have_no_distance() -> None:
    before = pl.DataFrame({"x": [1.0, 2.0, 3.0, None]})
    drift = drift_of(before, pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64}))
    assert drift == ColumnDrift(
        column="x", psi=None, ks=None, jensen_shannon=None, l_infinity=None, null_delta=0.75, new_share=None
    )


def test_columns_of_another_type_or_in_one_profile_only_are_left_out() -> None:
    before = profile_frame(pl.DataFrame({"x": [1], "gone": [1]}))
    now = profile_frame(pl.DataFrame({"x": ["a"], "new": [1]}), reference=before)
    assert measure_drift(before, now) == []


def test_profiles_with_different_knots_are_refused() -> None:
    with pytest.raises(InvalidInput, match="other knots"):
        measure_drift(profile_frame(pl.DataFrame({"x": [1, 2]})), profile_frame(pl.DataFrame({"x": [3, 4]})))
