from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import Conflict, Corrupt, InvalidInput
from mainspring.datasets import CategoricalProfile, NumericProfile, Profile, merge_profiles, profile_frame
from mainspring.datasets.profiles import TOP_VALUES

numbers = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("nan")))
texts = st.one_of(st.none(), st.sampled_from("abcdef"))


@st.composite
def tables(draw: st.DrawFn, min_rows: int = 0) -> pl.DataFrame:
    rows = draw(st.integers(min_rows, 60))
    return pl.DataFrame(
        {
            "number": pl.Series(draw(st.lists(numbers, min_size=rows, max_size=rows)), dtype=pl.Float64),
            "whole": pl.Series(
                draw(st.lists(st.integers(-5, 5) | st.none(), min_size=rows, max_size=rows)), dtype=pl.Int64
            ),
            "text": pl.Series(draw(st.lists(texts, min_size=rows, max_size=rows)), dtype=pl.String),
        }
    )


def numeric(profile: Profile, name: str) -> NumericProfile:
    column = profile.columns[name]
    assert isinstance(column, NumericProfile)
    return column


def categorical(profile: Profile, name: str) -> CategoricalProfile:
    column = profile.columns[name]
    assert isinstance(column, CategoricalProfile)
    return column


@given(tables())
def test_a_profile_counts_what_is_there(frame: pl.DataFrame) -> None:
    profile = profile_frame(frame)
    values = frame["number"].drop_nulls().drop_nans().to_numpy()
    column = numeric(profile, "number")
    assert (column.count, column.nulls) == (len(values), frame.height - len(values))
    assert column.at_most == [int((values <= knot).sum()) for knot in column.knots]
    assert column.less_than == [int((values < knot).sum()) for knot in column.knots]
    if len(values):
        assert (column.minimum, column.maximum) == (values.min(), values.max())
        assert (column.knots[0], column.knots[-1]) == (values.min(), values.max())
        assert column.mean == pytest.approx(values.mean(), abs=1e-6)
        assert column.sd == pytest.approx(values.std(), abs=1e-3)
    words = categorical(profile, "text")
    assert words.values == {key: frame["text"].to_list().count(key) for key in frame["text"].drop_nulls().unique()}
    assert words.count + words.nulls == frame.height


@given(tables())
def test_a_profile_survives_json(frame: pl.DataFrame) -> None:
    profile = profile_frame(frame)
    assert Profile.from_json(profile.to_json()) == profile


@given(tables(min_rows=1), tables(), tables())
def test_merged_profiles_are_the_profile_of_all_rows(
    reference_rows: pl.DataFrame, one: pl.DataFrame, two: pl.DataFrame
) -> None:
    reference = profile_frame(reference_rows)
    merged = merge_profiles([profile_frame(part, reference=reference) for part in (one, two)])
    whole = profile_frame(pl.concat([one, two]), reference=reference)
    assert merged.rows == whole.rows
    assert categorical(merged, "text") == categorical(whole, "text")
    for name in ("number", "whole"):
        got, wanted = numeric(merged, name), numeric(whole, name)
        assert (got.at_most, got.less_than, got.nulls) == (wanted.at_most, wanted.less_than, wanted.nulls)
        assert (got.minimum, got.maximum) == (wanted.minimum, wanted.maximum)
        assert got.mean == pytest.approx(wanted.mean, abs=1e-6)
        assert got.sd == pytest.approx(wanted.sd, abs=1e-3)


def test_types_are_named_as_tfdv_does() -> None:
    frame = pl.DataFrame(
        {
            "flag": [True, None],
            "whole": pl.Series([1, 2], dtype=pl.Int8),
            "real": [0.5, None],
            "text": ["a", "b"],
            "level": pl.Series(["a", "b"], dtype=pl.Categorical),
            "day": pl.Series([0, 1], dtype=pl.Date),
            "nothing": [None, None],
        }
    )
    types = {name: column.type for name, column in profile_frame(frame).columns.items()}
    assert types == {
        "flag": "INT",
        "whole": "INT",
        "real": "FLOAT",
        "text": "BYTES",
        "level": "BYTES",
        "day": "INT",
        "nothing": "FLOAT",
    }
    assert numeric(profile_frame(frame), "day").maximum == 86_400_000


def test_infinite_values_are_counted_apart() -> None:
    column = numeric(profile_frame(pl.DataFrame({"x": [1.0, math.inf, -math.inf, math.nan, None, 3.0]})), "x")
    assert (column.count, column.infinite, column.nulls, column.mean) == (2, 2, 2, 2.0)


def test_huge_values_do_not_break_json() -> None:
    profile = profile_frame(pl.DataFrame({"x": [1.7e308, 1.7e308, -1.7e308]}))
    assert Profile.from_json(profile.to_json()) == profile


def test_rare_values_are_others_unless_the_reference_knows_them() -> None:
    many = [f"v{i:04}" for i in range(1000)] + ["common"] * 5
    profile = categorical(profile_frame(pl.DataFrame({"x": many})), "x")
    assert len(profile.values) == TOP_VALUES
    assert (profile.values["common"], profile.other) == (5, 1000 - (TOP_VALUES - 1))
    reference = profile_frame(pl.DataFrame({"x": ["v0999"]}))
    known = categorical(profile_frame(pl.DataFrame({"x": many}), reference=reference), "x")
    assert known.values["v0999"] == 1


def test_a_profile_stays_small() -> None:
    values = np.random.default_rng(0).lognormal(size=100_000)
    profile = profile_frame(pl.DataFrame({"x": values}))
    assert len(numeric(profile, "x").knots) <= 257
    assert len(profile.to_json()) < 12_000


def test_profiles_that_do_not_fit_are_refused() -> None:
    one = profile_frame(pl.DataFrame({"x": [1, 2]}))
    with pytest.raises(Conflict, match="different knots"):
        merge_profiles([one, profile_frame(pl.DataFrame({"x": [3, 4]}))])
    with pytest.raises(Conflict, match="numbers in one"):
        merge_profiles([one, profile_frame(pl.DataFrame({"x": ["a"]}))])
    with pytest.raises(Conflict, match="different columns"):
        merge_profiles([one, profile_frame(pl.DataFrame({"y": [1]}))])
    with pytest.raises(InvalidInput, match="no profile"):
        merge_profiles([])
    with pytest.raises(InvalidInput, match="neither"):
        profile_frame(pl.DataFrame({"x": [[1]]}))
    with pytest.raises(Corrupt, match="not a profile"):
        Profile.from_json(b"[]")
