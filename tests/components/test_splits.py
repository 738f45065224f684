from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.components import read_table, split_data, split_rows
from mainspring.core import InvalidInput


def numbered(rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"n": range(rows), "key": [f"k{n // 3}" for n in range(rows)], "at": [n // 4 for n in range(rows)]}
    )


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(60, 300),
    fraction=st.floats(0.2, 0.8),
    seed=st.integers(0, 5),
    method=st.sampled_from(["random", "time", "hash"]),
)
def test_every_row_is_on_one_side_in_its_old_order_and_always_the_same(rows, fraction, seed, method) -> None:
    column = {"random": "", "time": "at", "hash": "key"}[method]
    frame = numbered(rows)
    train, test = split_rows(frame, method=method, test_fraction=fraction, column=column, seed=seed)
    assert sorted(train["n"].to_list() + test["n"].to_list()) == list(range(rows))
    assert train["n"].is_sorted()
    assert test["n"].is_sorted()
    again = split_rows(frame, method=method, test_fraction=fraction, column=column, seed=seed)
    assert (train.equals(again[0]), test.equals(again[1])) == (True, True)


def test_random_takes_the_fraction_and_another_seed_takes_others() -> None:
    _, one = split_rows(numbered(1000), method="random", test_fraction=0.25, seed=1)
    _, two = split_rows(numbered(1000), method="random", test_fraction=0.25, seed=2)
    assert one.height == two.height == 250
    assert not one.equals(two)


def test_by_time_everything_in_the_test_is_newer() -> None:
    train, test = split_rows(numbered(103).sample(fraction=1, shuffle=True, seed=3), method="time", column="at")
    assert train["at"].max() < test["at"].min()


def test_by_key_rows_stay_together_also_when_the_table_grows() -> None:
    train, test = split_rows(numbered(300), method="hash", column="key")
    assert not set(train["key"]) & set(test["key"])
    _, later = split_rows(numbered(900).sample(fraction=1, shuffle=True, seed=3), method="hash", column="key")
    assert set(test["key"]) == {key for key in later["key"] if int(key[1:]) < 100}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"method": "best"}, "no way to split"),
        ({"method": "time"}, "needs a column"),
        ({"method": "hash", "column": "nothing"}, "no column 'nothing'"),
        ({"test_fraction": 1.0}, "is not a part"),
        ({"method": "time", "column": "same"}, "No rows are left for testing"),
        ({"method": "time", "column": "gaps"}, "without a time"),
    ],
)
def test_what_cannot_be_split_is_refused(change, error: str) -> None:
    frame = numbered(10).with_columns(same=pl.lit(1), gaps=pl.lit(None, dtype=pl.Int64))
    with pytest.raises(InvalidInput, match=error):
        split_rows(frame, **{"method": "random", **change})


def test_the_two_parts_are_artifacts(table, file) -> None:
    train, test = file("train"), file("test")
    split_data(table("data", numbered(100)), train=train, test=test, test_fraction=0.3)
    assert (read_table(train).height, read_table(test).height) == (70, 30)
    assert test.metadata["rows"] == 30
