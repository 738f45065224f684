"""A request is checked column by column, and every problem is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.serving.faults import BadRequest
from mainspring.serving.plan import Column, make_plan
from mainspring.serving.validation import check, rows_to_columns

PLAN = make_plan(
    [
        Column(name="s", type="string"),
        Column(name="o", type="string", required=False),
        Column(name="d", type="double"),
        Column(name="n", type="long"),
        Column(name="b", type="boolean"),
    ]
)
GOOD = {"s": ["x"], "o": ["y"], "d": [1.5], "n": [3], "b": [True]}


def test_a_good_request_becomes_arrays_in_the_order_of_the_plan():
    checked = check(PLAN, dict(reversed(GOOD.items())), 1)
    assert list(checked) == ["s", "o", "d", "n", "b"]
    assert checked["d"].dtype == np.float64


def test_null_is_missing_in_doubles_and_optional_columns():
    checked = check(PLAN, GOOD | {"d": [None], "o": [None]}, 1)
    assert math.isnan(checked["d"][0])
    assert checked["o"] == [None]


def test_an_optional_column_may_be_left_out():
    columns = {name: values for name, values in GOOD.items() if name != "o"}
    assert check(PLAN, columns, 1)["o"] == [None]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"s": [1]}, "column 's': expected a string, got 1 in row 0"),
        ({"s": [None]}, "column 's': expected a string, got null in row 0"),
        ({"d": ["1.5"]}, "column 'd': expected a number, got '1.5' in row 0"),
        ({"d": [True]}, "column 'd': expected a number, got true in row 0"),
        ({"d": [math.inf]}, "column 'd': expected a number, got an infinite number in row 0"),
        ({"d": [10**400]}, "column 'd': a huge integer is out of the range of double in row 0"),
        ({"d": [[1]]}, "column 'd': expected a number, got a list in row 0"),
        ({"n": [1.5]}, "column 'n': expected a whole number, got 1.5 in row 0"),
        ({"n": [None]}, "column 'n': expected a whole number, got null in row 0"),
        ({"n": [math.nan]}, "column 'n': expected a whole number, got NaN in row 0"),
        ({"n": [2**63]}, "column 'n': 9223372036854775808 is out of the range of long in row 0"),
        ({"n": [True]}, "column 'n': expected a whole number, got true in row 0"),
        ({"b": [1]}, "column 'b': expected a boolean, got 1 in row 0"),
        ({"s": ["x", "y"]}, "column 's' has 2 rows, expected 1"),
        ({"z": [1]}, "column 'z' is not in the signature"),
    ],
)
def test_each_problem_names_the_column_the_rule_and_the_row(change, problem):
    with pytest.raises(BadRequest) as caught:
        check(PLAN, GOOD | change, 1)
    assert caught.value.problems == [problem]


def test_all_problems_are_collected():
    with pytest.raises(BadRequest) as caught:
        check(PLAN, {"s": [1], "o": ["y"], "n": ["x"], "b": [True], "zz": [0]}, 1)
    assert caught.value.problems == [
        "column 'zz' is not in the signature",
        "column 's': expected a string, got 1 in row 0",
        "column 'd' is missing",
        "column 'n': expected a whole number, got 'x' in row 0",
    ]


def test_the_problems_of_a_big_request_are_bounded():
    with pytest.raises(BadRequest) as caught:
        check(PLAN, {f"column {n}": [0] for n in range(5000)}, 1)
    assert len(caught.value.problems) == 21
    assert len(str(caught.value)) < 3000


def test_ragged_rows_are_named():
    with pytest.raises(BadRequest, match="row 1 has 4 values, expected 5"):
        rows_to_columns([["x", "y", 1, 2, True], ["x", "y", 1, 2]], PLAN)


def test_rows_that_lack_a_required_column_are_named():
    row = {name: values[0] for name, values in GOOD.items()}
    with pytest.raises(BadRequest, match="column 'd' is missing in row 1"):
        rows_to_columns([row, {name: value for name, value in row.items() if name != "d"}], PLAN)


@pytest.mark.parametrize("rows", [[], [1], [{}, []], [None]])
def test_rows_of_no_shape_are_refused(rows):
    with pytest.raises(BadRequest):
        check(PLAN, rows_to_columns(rows, PLAN), len(rows))


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.none(), max_size=1)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(GOOD, VALUES)), min_size=1, max_size=4))
def test_whatever_is_sent_is_either_checked_or_refused(rows):
    columns = rows_to_columns(rows, PLAN)
    try:
        checked = check(PLAN, columns, len(rows))
    except BadRequest as error:
        assert error.problems  # noqa: PT017 either outcome is right
        return
    assert all(type(value) is str for value in checked["s"])
    assert all(type(value) is bool for value in checked["b"])
    assert np.isfinite(checked["n"]).all()
    assert not np.isinf(checked["d"]).any()
    sent = [math.nan if value is None else value for value in columns["d"]]
    assert np.array_equal(checked["d"], np.array(sent, dtype=float), equal_nan=True)
