"""Requests of numbers are read at once: with the same result as the general way, and logged as they were sent."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.serving.numbers import decode_or_none, numbers_of_rows, numbers_of_values
from mainspring.serving.plan import Column, make_plan
from mainspring.serving.protocols import mlflow, v1, v2
from mainspring.serving.records import PredictionRecord
from mainspring.serving.validation import MLFLOW, STRICT, check_rows
from mainspring.serving.wire import BadRequest

PLAN = make_plan(
    [
        Column(name="a", type="double", takes_missing=False),
        Column(name="b", type="long"),
        Column(name="c", type="float"),
    ]
)
VALUES = st.one_of(
    st.integers(-5, 5),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2.0**31, 2**53 + 1, 1e39, None, True, "1", [1], 0.5]),
)
ROWS = st.lists(
    st.one_of(st.lists(VALUES, min_size=3, max_size=3), st.lists(st.integers(-9, 9), min_size=0, max_size=4)),
    min_size=1, max_size=4,
)  # fmt: skip


def outcome(make):
    """Return the values a model would get (as text: NaN is not equal to itself), or what is wrong with them."""
    try:
        checked = make()
    except BadRequest as error:
        return error.problems
    return {name: repr(np.asarray(checked[name]).tolist()) for name in checked}


def read(parse, body):
    parsed = parse(json.dumps(body).encode(), {})
    return parsed.read(PLAN).check(PLAN, parsed.rules, {})


@settings(deadline=None, max_examples=300)
@given(ROWS)
def test_every_protocol_reads_rows_as_the_general_way_does(rows):
    expected = {
        True: outcome(lambda: check_rows(PLAN, rows, MLFLOW)),
        False: outcome(lambda: check_rows(PLAN, rows, STRICT)),
    }
    assert outcome(lambda: read(v1.parse, {"instances": rows})) == expected[False]
    assert outcome(lambda: read(mlflow.parse, {"instances": rows})) == expected[True]
    split = {"columns": list(PLAN.names), "data": rows}
    assert outcome(lambda: read(mlflow.parse, {"dataframe_split": split})) == expected[True]


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("name", ["input", "data", 'x"data'])
@pytest.mark.parametrize("parameters", [{}, {"parameters": {"data": [1, 2]}}])
def test_a_tensor_of_numbers_is_a_matrix_and_its_text_is_kept(datatype, name, parameters):
    tensor = {"name": name, "shape": [2, 3], "datatype": datatype, "data": [1.0, 2, 3e0, 4, 5, 6.5]} | parameters
    parsed = v2.parse(json.dumps({"id": "r", "inputs": [tensor], "outputs": [{"name": "predict"}]}).encode(), {})
    found = parsed.read(PLAN)
    assert np.asarray(found.check(PLAN, parsed.rules, {}).matrix).tolist() == [[1, 2, 3], [4, 5, 6.5]]
    assert parsed.id == "r"
    assert parsed.outputs == ("predict",)
    if name == "input" and not parameters:
        assert found.text == b"1.0,2,3.0,4,5,6.5"
    else:
        assert found.text in (b"", b"1.0,2,3.0,4,5,6.5")


def test_what_is_no_plain_number_is_left_to_the_general_way():
    decoder = msgspec.json.Decoder(list[list[float]])
    for text in (b'[["1"]]', b"[[true]]", b"[[null]]", b"[[NaN]]", b"[[1]", b"[[1e999]]", b"\xff", b"[" * 100_000):
        assert decode_or_none(decoder, text) is None
    assert numbers_of_rows([[1.0], [1.0, 2.0]], b"") is None
    assert numbers_of_rows([], b"") is None
    assert numbers_of_rows([[]], b"") is None
    for shape in ([2, 2], [3], [1, 3, 1], [-1, -3], [0, 0], [2**40, 2**40]):
        assert numbers_of_values([1.0, 2.0, 3.0], shape, b"") is None


def test_a_line_with_names_and_numbers_becomes_columns():
    fields = dict.fromkeys(("latency_ms", "received_at", "revision", "rows", "status"), 1)
    fields |= dict.fromkeys(("id", "endpoint", "variant", "model", "version", "digest", "protocol"), "x")
    line = json.dumps(fields | {"shadow": False, "inputs": [["a", "b"], [1, 2.5, 3, 4]]})
    record = msgspec.json.decode(line, type=PredictionRecord)
    assert record.inputs == {"a": [1, 3], "b": [2.5, 4]}
    assert msgspec.json.decode(msgspec.json.encode(record), type=PredictionRecord) == record
