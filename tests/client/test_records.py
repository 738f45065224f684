from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.client import checks
from mainspring.client.batches import MAX_ENTITIES, MAX_PARAMS, MAX_TAGS, Batch, plan_calls
from mainspring.client.records import (
    EndRecord,
    FileRecord,
    MetricRecord,
    ParamRecord,
    RunStart,
    TagRecord,
    decode_header,
    decode_records,
    encode_header,
    encode_record,
)
from mainspring.core import Corrupt, InvalidInput

texts = st.text(st.characters(codec="utf-8"), max_size=20)
integers = st.integers(-(2**63), 2**63 - 1)
records = st.one_of(
    st.builds(MetricRecord, texts, st.floats(allow_nan=False, allow_infinity=False), integers, integers),
    st.builds(ParamRecord, texts, texts),
    st.builds(TagRecord, texts, texts),
    st.builds(FileRecord, texts, texts),
    st.builds(EndRecord, texts, integers),
)


@given(st.lists(records), st.integers(0, 40))
def test_what_was_written_is_read_back_and_a_torn_tail_is_left(written: list, torn: int) -> None:
    lines = b"".join(map(encode_record, written))
    tail = encode_record(ParamRecord("torn", "x" * 40))[:torn]
    found = list(decode_records(lines + tail))
    assert [record for record, _ in found] == written
    assert not found or found[-1][1] == len(lines)


def test_a_line_that_is_none_does_not_hide_the_others() -> None:
    lines = encode_record(TagRecord("a", "1")) + b'["m","half\n' + encode_record(TagRecord("b", "2"))
    assert [record for record, _ in decode_records(lines)] == [TagRecord("a", "1"), TagRecord("b", "2")]


def test_the_header_names_the_run() -> None:
    start = RunStart(run_id="r", experiment="e", tags={"a": "b"}, start_time=7, url="http://x")
    assert decode_header(encode_header(start)) == start
    with pytest.raises(Corrupt):
        decode_header(b"{}\n")


@given(st.lists(st.one_of(
    st.builds(MetricRecord, st.just("m"), st.just(1.0), st.integers(0, 9), st.integers(0, 9)),
    st.builds(ParamRecord, st.integers(0, 300).map(str), st.just("v" * 5000)),
    st.builds(TagRecord, st.integers(0, 300).map(str), st.just("v")),
    st.just(EndRecord("FINISHED", 1)),
), max_size=400))  # fmt: skip
def test_calls_hold_every_record_once_in_order_and_within_the_limits(logged: list) -> None:
    calls = list(plan_calls((record, number + 1) for number, record in enumerate(logged)))
    offsets = [call.offset for call in calls]
    assert offsets == sorted(set(offsets))
    assert not logged or offsets[-1] == len(logged)
    position = 0
    for call in calls:
        part, position = logged[position : call.offset], call.offset
        if isinstance(call.what, Batch):
            assert [record for record in part if isinstance(record, MetricRecord)] == call.what.metrics
            assert {record.key for record in part if isinstance(record, ParamRecord)} == call.what.params.keys()
            assert {record.key for record in part if isinstance(record, TagRecord)} == call.what.tags.keys()
            assert len(call.what) <= MAX_ENTITIES
            assert len(call.what.params) <= MAX_PARAMS
            assert len(call.what.tags) <= MAX_TAGS
            assert call.what.size <= 800_000
        else:
            assert part == [call.what]


@pytest.mark.parametrize("key", ["", "/a", "a/../b", "a\nb", "x" * 251, "..", "a\\b", None, 7])
def test_a_bad_name_is_refused(key: object) -> None:
    with pytest.raises(InvalidInput, match="metric"):
        checks.check_key("metric", key)


@pytest.mark.parametrize("value", ["0.5", b"1", None, [1.0], object(), 10**400])
def test_a_value_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="'loss'"):
        checks.check_value("loss", value)


@pytest.mark.parametrize("step", [1.5, "1", None, 2**63, -(2**63) - 1])
def test_a_step_that_is_no_64_bit_integer_is_refused(step: object) -> None:
    with pytest.raises(InvalidInput, match="step"):
        checks.check_integer("step", step)


def test_what_json_cannot_carry_becomes_text() -> None:
    assert [checks.to_wire(value) for value in (1.5, math.nan, math.inf, -math.inf)] == [
        1.5, "NaN", "Infinity", "-Infinity"
    ]  # fmt: skip
