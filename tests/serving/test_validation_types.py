"""Types, tensors, parameters and batches: what passes, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.serving.faults import BadRequest
from mainspring.serving.plan import Column, DataType, Param, Property, Tensor, make_plan, matrix_plan, tensor_plan
from mainspring.serving.validation import MLFLOW, STRICT, Rules, can_join, check, check_params, check_rows, concatenate

NUMBERS = make_plan([Column(name="x", type="double"), Column(name="f", type="float"), Column(name="n", type="long")])
OBJECT = DataType(
    kind="object",
    properties={"a": Property(type=DataType(kind="long")), "b": Property(type=DataType(kind="string"), required=False)},
)


def _one(kind, value, **more):
    nested = more.pop("nested", DataType(kind=kind))
    plan = make_plan([Column(name="v", type=kind, nested=nested, **more)])
    return check(plan, {"v": [value]}, 1)["v"]


def _problem(kind, value, **more):
    with pytest.raises(BadRequest) as caught:
        _one(kind, value, **more)
    (problem,) = caught.value.problems
    return problem


def test_times_become_utc_without_a_zone():
    assert _one("datetime", "2013-01-01T06:30:00")[0] == np.datetime64("2013-01-01T06:30:00", "us")
    assert _one("datetime", "2013-01-01T06:30:00+02:00")[0] == np.datetime64("2013-01-01T04:30:00", "us")
    assert _one("datetime", "2013-01-01T06:30:00Z").dtype == np.dtype("datetime64[us]")
    assert _problem("datetime", "yesterday") == "column 'v': expected a time in ISO 8601, got 'yesterday' in row 0"
    assert "got 5 in row 0" in _problem("datetime", 5)
    assert "got null" in _problem("datetime", None)


def test_bytes_come_in_base64():
    assert _one("binary", "aGk=") == [b"hi"]
    assert "expected bytes in base64" in _problem("binary", "not base64!")


def test_nested_values_are_checked_to_the_bottom():
    array = DataType(kind="array", items=DataType(kind="double"))
    assert _one("array", [1, 2.5], nested=array) == [[1, 2.5]]
    assert _problem("array", [1, "x"], nested=array) == "column 'v': expected a number, got 'x' at place 1 in row 0"
    assert "expected a list, got 3" in _problem("array", 3, nested=array)
    assert _one("object", {"a": 1}, nested=OBJECT) == [{"a": 1}]
    assert "field 'a': expected a whole number, got 1.5" in _problem("object", {"a": 1.5}, nested=OBJECT)
    assert "the field 'a' is missing" in _problem("object", {"b": "x"}, nested=OBJECT)
    assert "the field 'c' is not in the signature" in _problem("object", {"a": 1, "c": 2}, nested=OBJECT)
    mapping = DataType(kind="map", items=DataType(kind="boolean"))
    assert _one("map", {"k": True}, nested=mapping) == [{"k": True}]
    assert "expected a boolean, got 1" in _problem("map", {"k": 1}, nested=mapping)
    assert _one("any", {"whatever": [None]}) == [{"whatever": [None]}]


def test_requests_of_numbers_become_one_matrix():
    checked = check(NUMBERS, {"n": [3, 4], "x": [1, 2.5], "f": [0, None]}, 2)
    np.testing.assert_array_equal(checked.matrix, [[1, 0, 3], [2.5, np.nan, 4]])
    assert checked["x"].tolist() == [1, 2.5]
    rows = check_rows(NUMBERS, [[1, 0, 3], [2.5, None, 4]])
    np.testing.assert_array_equal(rows.matrix, checked.matrix)
    objects = check_rows(NUMBERS, [{"f": 0, "n": 3, "x": 1}, {"n": 4, "x": 2.5, "f": None}])
    np.testing.assert_array_equal(objects.matrix, checked.matrix)
    matrix = check_rows(NUMBERS, np.array([[1, 0, 3], [2.5, np.nan, 4]]))
    np.testing.assert_array_equal(matrix.matrix, checked.matrix)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([1, 1e39, 3], "column 'f': 1e+39 is out of the range of float in row 0"),
        ([1, 1, 3.5], "column 'n': expected a whole number, got 3.5 in row 0"),
        ([1, 1, None], "column 'n': expected a whole number, got null in row 0"),
        ([math.inf, 1, 1], "column 'x': expected a number, got an infinite number in row 0"),
        ([True, 1, 1], "column 'x': expected a number, got true in row 0"),
        (["1", 1, 1], "column 'x': expected a number, got '1' in row 0"),
        ([1, 1], "row 0 has 2 values, expected 3"),
        ([1, 1, [1]], "column 'n': expected a whole number, got a list in row 0"),
        ([10**400, 1, 1], "column 'x': a huge integer is out of the range of double in row 0"),
    ],
)
def test_a_matrix_is_checked_as_strictly_as_columns(row, problem):
    with pytest.raises(BadRequest) as caught:
        check_rows(NUMBERS, [row])
    assert caught.value.problems == [problem]


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[np.inf, 1, 1]]),
        np.array([[1, 1, 1.5]]),
        np.array([[1, 1, np.nan]]),
        np.array([[True, True, True]]),
        np.ones((1, 4)),
    ],
)
def test_a_matrix_of_bytes_is_checked_too(matrix):
    with pytest.raises(BadRequest):
        check_rows(NUMBERS, matrix)


def test_whole_numbers_that_a_double_cannot_hold_stay_exact():
    checked = check(NUMBERS, {"x": [1], "f": [1], "n": [2**53 + 1]}, 1)
    assert checked["n"].tolist() == [2**53 + 1]
    assert checked.matrix is None


def test_mlflows_rules_take_numeric_strings_and_drop_other_columns():
    columns = {"x": ["1.5"], "f": [2], "n": [3], "more": ["z"]}
    with pytest.raises(BadRequest):
        check(NUMBERS, columns, 1, STRICT)
    assert check(NUMBERS, columns, 1, MLFLOW).matrix.tolist() == [[1.5, 2, 3]]
    for bad in ("nan", "inf", "1,5", ""):
        with pytest.raises(BadRequest, match="expected a number"):
            check(NUMBERS, columns | {"x": [bad]}, 1, MLFLOW)
    with pytest.raises(BadRequest, match="expected a whole number, got '3'"):
        check(NUMBERS, columns | {"n": ["3"]}, 1, MLFLOW)
    assert check(NUMBERS, {"x": [True], "f": [1], "n": [False]}, 1, Rules(booleans_as_numbers=True)).matrix[0, 0] == 1


def test_unseen_categories_are_noted_refused_or_unknown_to_the_plan():
    plan = make_plan([Column(name="c", type="string", categories=frozenset({"a", "b"}))])
    assert check(plan, {"c": ["a"]}, 1).notes == ()
    assert check(plan, {"c": ["x", "y", "a"]}, 3).notes == ("column 'c': unseen category 'x', 'y'",)
    with pytest.raises(BadRequest, match="unseen category 'x'"):
        check(plan, {"c": ["x"]}, 1, Rules(refuses_unseen=True))


IMAGE = tensor_plan([Tensor(name="pixels", dtype="float32", shape=(-1, 2, 2))])
PAIR = tensor_plan([Tensor(name="ids", dtype="int64", shape=(-1,)), Tensor(name="words", dtype="str", shape=(-1, 1))])


def test_tensors_keep_their_names_dtypes_and_shapes():
    image = [[[1, 2], [3, 4.5]]]
    for found in (
        check_rows(IMAGE, image),
        check(IMAGE, {"pixels": image}, 1),
        check(IMAGE, {"any": np.array(image)}, 1),
    ):
        assert found["pixels"].dtype == np.float32
        assert found["pixels"].tolist() == [[[1, 2], [3, 4.5]]]
    pair = check(PAIR, {"words": [["a"], ["b"]], "ids": [1, 2.0]}, 2)
    assert (pair["ids"].dtype, pair["words"].tolist()) == (np.int64, [["a"], ["b"]])
    flat = check(PAIR, {"words": ["a"], "ids": [1]}, 1)
    assert flat["words"].tolist() == [["a"]]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"ids": [1]}, "input 'words' is missing"),
        ({"ids": [1], "words": [["a"]], "z": [1]}, "input 'z' is not in the signature"),
        ({"ids": [1, 2], "words": [["a"]]}, "different numbers of rows"),
        ({"ids": [1.5], "words": [["a"]]}, "expected whole numbers"),
        ({"ids": [2**63], "words": [["a"]]}, "out of the range of int64"),
        ({"ids": [float(2**63)], "words": [["a"]]}, "out of the range of int64"),
        ({"ids": [True], "words": [["a"]]}, "expected numbers, got true"),
        ({"ids": [None], "words": [["a"]]}, "expected numbers, got null"),
        ({"ids": ["1"], "words": [["a"]]}, "expected numbers, got '1'"),
        ({"ids": [1], "words": [[1]]}, "expected strings"),
        ({"ids": [1], "words": [["a", "b"]]}, r"has the shape \[1, 2\], expected \[-1, 1\]"),
        ({"ids": [[1], 2], "words": [["a"]]}, "ragged"),
        ({"ids": [], "words": []}, "no rows"),
    ],
)
def test_each_problem_of_a_tensor_is_named(columns, problem):
    with pytest.raises(BadRequest, match=problem):
        check(PAIR, columns, 1)


def test_numbers_that_do_not_fit_a_tensor_are_refused():
    for bad in ([[[1e39, 0], [0, 0]]], [[[math.inf, 0], [0, 0]]], [[[1, 2], [3]]], [[1, 2]], [[[1, 2], [3, "x"]]]):
        with pytest.raises(BadRequest):
            check_rows(IMAGE, bad)
    small = tensor_plan([Tensor(name="b", dtype="uint8", shape=(-1,))])
    for bad in ([300], [-1], [1.5]):
        with pytest.raises(BadRequest):
            check_rows(small, bad)
    deep: list = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(BadRequest):
        check_rows(IMAGE, deep)


def test_columns_of_numbers_are_a_matrix_to_a_model_without_names():
    plan = matrix_plan(2)
    assert check(plan, {"b": [1, 2], "a": [3, 4]}, 2).matrix.tolist() == [[1, 3], [2, 4]]
    assert check_rows(matrix_plan(None), [[1, 2, 3]]).matrix.tolist() == [[1, 2, 3]]
    with pytest.raises(BadRequest, match="expected \\[-1, 2\\]"):
        check_rows(plan, [[1, 2, 3]])


def test_params_have_defaults_and_types():
    plan = make_plan(
        [Column(name="x", type="double")],
        [Param(name="t", type="double", default=1.0), Param(name="stops", type="string", default=None, shape=(-1,))],
    )
    assert check_params(plan, None) == {"t": 1.0, "stops": None}
    assert check_params(plan, {"t": 2, "stops": ["a", "b"]}) == {"t": 2.0, "stops": ["a", "b"]}
    for bad in ({"t": "x"}, {"t": [1.0]}, {"stops": "a"}, {"z": 1}):
        with pytest.raises(BadRequest, match="parameter"):
            check_params(plan, bad)
    assert check_params(plan, {"z": 1}, MLFLOW) == {"t": 1.0, "stops": None}
    with pytest.raises(BadRequest, match="takes no parameters"):
        check_params(NUMBERS, {"t": 1})


def test_requests_join_only_with_equal_params_and_sizes():
    plan = matrix_plan(None)
    one, other, wide = (check_rows(plan, rows) for rows in ([[1, 2]], [[3, 4], [5, 6]], [[1, 2, 3]]))
    assert can_join(one, other)
    assert not can_join(one, wide)
    assert concatenate([one, other]).matrix.tolist() == [[1, 2], [3, 4], [5, 6]]
    warm = check_rows(plan, [[1, 2]], params={"t": 1})
    assert not can_join(one, warm)


MIXED = make_plan([Column(name="s", type="string"), Column(name="d", type="double"), Column(name="n", type="long")])
ROWS = st.lists(
    st.tuples(st.text(max_size=3), st.floats(allow_infinity=False) | st.none(), st.integers(-(2**63), 2**63 - 1)),
    min_size=1,
    max_size=4,
)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_a_batch_holds_exactly_the_rows_of_its_requests(requests):
    parts = [check_rows(MIXED, [list(row) for row in rows]) for rows in requests]
    batch = concatenate(parts)
    assert batch.rows == sum(part.rows for part in parts)
    start = 0
    for rows, part in zip(requests, parts, strict=True):
        back = batch.slice(start, start + part.rows)
        start += part.rows
        assert list(back["s"]) == [row[0] for row in rows]
        assert back["n"].tolist() == [row[2] for row in rows]
        np.testing.assert_array_equal(back["d"], [math.nan if row[1] is None else row[1] for row in rows])


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2) | st.lists(st.integers(), max_size=2)
)


@given(
    st.lists(st.lists(VALUES, min_size=2, max_size=3), min_size=1, max_size=3), st.sampled_from([NUMBERS, IMAGE, PAIR])
)
def test_whatever_is_sent_is_checked_or_refused_and_never_an_error(rows, plan):
    for attempt in (lambda: check_rows(plan, rows), lambda: check(plan, {"ids": rows, "words": rows}, len(rows))):
        try:
            checked = attempt()
        except BadRequest as error:
            assert error.problems  # noqa: PT017 either outcome is right
        else:
            assert checked.rows == len(rows)
