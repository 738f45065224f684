"""Lists of Kubeflow Pipelines' API: every operation of a filter, orders, and pages while things change."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.api.kfp.filters import Field, read_filter
from mainspring.api.kfp.listing import Listing, select_page
from mainspring.api.kfp.wire import Call
from mainspring.core import InvalidInput

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z
FIELDS = {
    "name": Field(read=lambda item: item["name"]),
    "created_at": Field(read=lambda item: item["at"], kind="time"),
}
LISTING = Listing(kind="thing", fields=FIELDS, id=lambda item: item["name"])
THINGS = [{"name": name, "at": at} for name, at in (("Anna", NOON), ("bob", NOON + 1000), ("joanna", None))]


def names(*predicates):
    wanted = read_filter(FIELDS, json.dumps({"predicates": predicates}))
    return [item["name"] for item in THINGS if wanted(item)]


@pytest.mark.parametrize(
    ("operation", "value", "found"),
    [
        ("EQUALS", {"string_value": "bob"}, ["bob"]),
        (1, {"stringValue": "bob"}, ["bob"]),
        ("NOT_EQUALS", {"string_value": "bob"}, ["Anna", "joanna"]),
        ("GREATER_THAN", {"string_value": "bob"}, ["joanna"]),
        ("GREATER_THAN_EQUALS", {"string_value": "bob"}, ["bob", "joanna"]),
        ("LESS_THAN", {"string_value": "bob"}, ["Anna"]),
        ("LESS_THAN_EQUALS", {"string_value": "bob"}, ["Anna", "bob"]),
        ("IN", {"string_values": {"values": ["bob", "joanna", "x"]}}, ["bob", "joanna"]),
        ("IN", {"stringValues": {"values": []}}, []),
        ("IS_SUBSTRING", {"string_value": "ANN"}, ["Anna", "joanna"]),
    ],
)
def test_every_operation_on_a_text(operation, value, found):
    assert names({"operation": operation, "key": "name", **value}) == found


@pytest.mark.parametrize(
    ("operation", "value", "found"),
    [
        ("EQUALS", {"timestamp_value": "2026-01-01T12:00:00Z"}, ["Anna"]),
        ("EQUALS", {"timestampValue": "2026-01-01T13:00:00+01:00"}, ["Anna"]),
        ("GREATER_THAN", {"long_value": str(NOON // 1000)}, ["bob"]),
        ("LESS_THAN", {"int_value": 1_000_000}, ["joanna"]),
        ("IN", {"long_values": {"values": [str(NOON // 1000), "0"]}}, ["Anna", "joanna"]),
    ],
)
def test_every_kind_of_time(operation, value, found):
    assert names({"operation": operation, "key": "created_at", **value}) == found


def test_all_conditions_hold_and_a_filter_may_be_written_for_an_address():
    both = ({"operation": "IS_SUBSTRING", "key": "name", "string_value": "a"},)
    both += ({"operation": "NOT_EQUALS", "key": "name", "string_value": "Anna"},)
    assert names(*both) == ["joanna"]
    wanted = read_filter(FIELDS, quote(json.dumps({"predicates": both})))
    assert [item["name"] for item in THINGS if wanted(item)] == ["joanna"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"predicates": 3}', "cannot be read"),
        ('{"predicates": [3]}', "cannot be read"),
        ('{"predicates": [{"key": "name"}]}', "operation"),
        ('{"predicates": [{"operation": "EQUALS", "key": "name", "value": 1}]}', "value"),
        ('{"predicates": [{"operation": "EQUALS", "key": "name"}]}', "0 values"),
        ('{"predicates": [{"operation": "LIKE", "key": "name", "string_value": "x"}]}', "LIKE is not an operation"),
        ('{"predicates": [{"operation": 0, "key": "name", "string_value": "x"}]}', "OPERATION_UNSPECIFIED"),
        ('{"predicates": [{"operation": "EQUALS", "key": "size", "string_value": "x"}]}', "filtered by 'size'"),
        ('{"predicates": [{"operation": "EQUALS", "key": "name", "int_value": 1}]}', "name is a text"),
        ('{"predicates": [{"operation": "EQUALS", "key": "created_at", "string_value": "x"}]}', "created_at is a time"),
        ('{"predicates": [{"operation": "IN", "key": "name", "string_value": "x"}]}', "takes a list"),
        ('{"predicates": [{"operation": "EQUALS", "key": "name", "string_values": {"values": []}}]}', "one value"),
        (
            '{"predicates": [{"operation": "IS_SUBSTRING", "key": "created_at", "int_value": 1}]}',
            "takes a string_value",
        ),
    ],
)
def test_what_is_wrong_with_a_filter_is_named(text, problem):
    with pytest.raises(InvalidInput, match=problem):
        read_filter(FIELDS, text)


def page(things, **query):
    call = Call(path={}, query={name: str(value) for name, value in query.items()}, content_type="", body=b"")
    return select_page(LISTING, call, things)


def test_a_token_fits_its_own_list_only():
    token = page(THINGS, page_size=1, sort_by="name desc").next_token
    assert [item["name"] for item in page(THINGS, page_token=token, sort_by="name desc").items] == ["bob", "Anna"]
    for changes in ({"sort_by": "name"}, {"filter": '{"predicates": []}'}, {"page_token": token[4:]}):
        with pytest.raises(InvalidInput, match="page_token"):
            page(THINGS, **{"page_token": token, **changes})


ORDERS = st.sampled_from(["", "name", "name desc", "created_at", "created_at desc", " NAME  ASC "])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3)), unique_by=lambda pair: pair[0]), ORDERS, st.data())
def test_pages_give_everything_once_and_in_order_whatever_comes_and_goes(pairs, order, data):
    things = [{"name": name, "at": at} for name, at in pairs]
    seen, token, gone = [], "", set()
    while True:
        found = page(things, page_size=2, page_token=token, sort_by=order)
        seen += [item["name"] for item in found.items]
        token = found.next_token
        if not token:
            break
        victim = data.draw(st.sampled_from(things))
        gone.add(victim["name"])
        things = [item for item in things if item is not victim]
    assert len(seen) == len(set(seen))
    assert {name for name, _ in pairs} - gone <= set(seen)
    field = FIELDS["name" if "name" in order.lower() else "created_at"]
    by_name = dict(pairs)
    places = [(field.value({"name": name, "at": by_name[name]}), name) for name in seen]
    assert places == sorted(places, reverse=order.endswith("desc"))
