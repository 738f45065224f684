from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import Corrupt, InvalidInput
from mainspring.features import CategoricalColumn, NumericColumn, Transform, fit_transform

TRANSFORM = Transform(
    columns=(NumericColumn(name="distance"), CategoricalColumn(name="carrier", categories=("AA", "B6", "UA")))
)

floats = st.one_of(st.none(), st.floats(allow_nan=False, width=64))
texts = st.one_of(st.none(), st.sampled_from(["AA", "B6", "UA", "ZZ", ""]), st.text(max_size=3))


@st.composite
def frames(draw: st.DrawFn) -> dict[str, list[object]]:
    rows = draw(st.integers(0, 12))
    whole = draw(st.booleans())
    numbers = st.one_of(st.none(), st.integers(-(2**53), 2**53)) if whole else floats
    return {
        "distance": draw(st.lists(numbers, min_size=rows, max_size=rows)),
        "carrier": draw(st.lists(texts, min_size=rows, max_size=rows)),
    }


@given(frames())
def test_lists_arrays_and_series_give_the_same_matrix(columns: dict[str, list[object]]) -> None:
    from_lists = TRANSFORM.apply(columns)
    from_arrays = TRANSFORM.apply({name: np.array(values, dtype=object) for name, values in columns.items()})
    from_series = TRANSFORM.apply(
        {
            "distance": pl.Series(columns["distance"], strict=False),
            "carrier": pl.Series(columns["carrier"], dtype=pl.String),
        }
    )
    np.testing.assert_array_equal(from_lists, from_arrays)
    np.testing.assert_array_equal(from_lists, from_series)


@given(frames(), st.sets(st.text(max_size=3)))
def test_a_transform_survives_json(columns: dict[str, list[object]], categories: set[str]) -> None:
    transform = Transform(
        columns=(
            NumericColumn(name="distance"),
            CategoricalColumn(name="carrier", categories=tuple(sorted({*categories, "AA", "UA"}))),
        )
    )
    again = Transform.from_json(transform.to_json())
    assert again == transform
    np.testing.assert_array_equal(again.apply(columns), transform.apply(columns))


def test_missing_and_unseen_values_become_nan() -> None:
    matrix = TRANSFORM.apply({"distance": [1, None, float("nan")], "carrier": ["UA", None, "new"]})
    np.testing.assert_array_equal(matrix, [[1, 2], [np.nan, np.nan], [np.nan, np.nan]])


def test_fit_learns_the_sorted_vocabulary_without_nulls() -> None:
    frame = pl.DataFrame({"carrier": ["UA", None, "AA", "UA"], "distance": [1, 2, 3, 4]})
    transform = fit_transform(frame, ["distance"], ["carrier"])
    assert transform.columns[1] == CategoricalColumn(name="carrier", categories=("AA", "UA"))
    assert transform.feature_names == ["distance", "carrier"]
    assert transform.categorical_indices == [1]
    np.testing.assert_array_equal(transform.apply(frame.to_dict()), [[1, 1], [2, np.nan], [3, 0], [4, 1]])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"carrier": ["UA"]}, "'distance' is missing"),
        ({"distance": ["far"], "carrier": ["UA"]}, "'distance' must hold numbers"),
        ({"distance": [[1]], "carrier": ["UA"]}, "'distance'"),
        ({"distance": [1], "carrier": [["UA"]]}, "'carrier' must hold texts"),
        ({"distance": [1], "carrier": ["UA", "UA"]}, "'carrier' has the shape"),
    ],
)
def test_bad_columns_are_refused_by_name(columns: dict[str, list[object]], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        TRANSFORM.apply(columns)


def test_fit_refuses_unknown_columns_and_numbers_as_categories() -> None:
    frame = pl.DataFrame({"month": [1, 2]})
    with pytest.raises(InvalidInput, match="no column 'distance'"):
        fit_transform(frame, ["distance"], [])
    with pytest.raises(InvalidInput, match="not text"):
        fit_transform(frame, [], ["month"])


def test_broken_json_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="not a transform"):
        Transform.from_json(b'{"columns": [{"type": "pickle"}]}')


def test_a_request_of_fifty_rows_takes_well_under_a_millisecond() -> None:
    names = [f"n{i}" for i in range(15)]
    words = [f"c{i}" for i in range(5)]
    vocabulary = [f"v{i}" for i in range(100)]
    transform = Transform(
        columns=(
            *(NumericColumn(name=name) for name in names),
            *(CategoricalColumn(name=name, categories=tuple(sorted(vocabulary))) for name in words),
        )
    )
    request: dict[str, list[object]] = {name: [1.5, None, 3, 4, 5] * 10 for name in names}
    request |= dict.fromkeys(words, (vocabulary * 2)[:50])
    durations = []
    for _ in range(100):
        start = time.perf_counter()
        transform.apply(request)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.0003
