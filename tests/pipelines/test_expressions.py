"""The CEL subset of conditions."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.pipelines.expressions import EvaluationError, evaluate, evaluate_condition, parse_expression

P = "inputs.parameter_values['x']"


def holds(text, **values):
    return evaluate_condition(parse_expression(text), {"inputs": {"parameter_values": values}})


@pytest.mark.parametrize(
    ("text", "value", "answer"),
    [
        (f"{P} == 'a'", "a", True),
        (f"{P} != 'a'", "a", False),
        (f"int({P}) > 3", 4, True),
        (f"int({P}) > 3", "4", True),
        (f"{P} == 1", 1.0, True),
        (f"{P} == true", 1, False),
        (f"{P} == true", True, True),
        (f"{P} == '1'", 1, False),
        (f"!({P} == 'a') && !({P} == 'b')", "c", True),
        (f"{P} == 'a' || {P} == 'b' && false", "a", True),
        (f"({P} == 'a' || {P} == 'b') && false", "a", False),
        (f"{P}.deep[1] * 100.0 >= 90.0", {"deep": [0, 0.9]}, True),
        (f"{P} == null", None, True),
        (f"{P} < -1.5", -2, True),
        (f"'b' in {P}", {"b": 1}, True),
        (f"{P} in [1, 2 + 1] && !({P} in [])", 3, True),
        (f"size({P}) == 2 + 1", "abc", True),
        (f"parseJson({P}).a == 1", '{"a": 1}', True),
        (f"{P} == 'it's'", "it's", True),
        (f'{P} == "it\'s"', "it's", True),
        (f"{P} == 'it\\'s'", "it's", True),
    ],
)
def test_conditions_mean_what_cel_says(text, value, answer):
    assert holds(text, x=value) is answer


@pytest.mark.parametrize(
    "text", [f"{P} == 1", "inputs.other == 1", "nothing == 1", f"{P} < 'a'", f"int({P}) > 1", f"{P} && true"]
)
def test_what_has_no_value_is_an_error_not_false(text):
    values = {} if text == f"{P} == 1" else {"x": [1]}
    with pytest.raises(EvaluationError):
        holds(text, **values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x ==",
        "x = 1",
        "f(1)",
        "x == 'a",
        "(x",
        "x == 1 == 1",
        "x; y",
        "__import__('os')",
        "x 1",
        "x.",
        "[1",
        "[1 2]",
    ],
)
def test_what_is_not_an_expression_is_refused(text):
    with pytest.raises(InvalidInput, match="cannot be read"):
        parse_expression(text)


@given(st.text(), st.text())
def test_a_value_is_compared_as_it_is(value, other):
    assert holds(f"{P} == 'go'", x=value) is (value == "go")
    assert holds(f"{P} == inputs.parameter_values['y']", x=value, y=other) is (value == other)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_but_never_anything_else(text):
    with contextlib.suppress(InvalidInput):
        evaluate(parse_expression(text), {})
