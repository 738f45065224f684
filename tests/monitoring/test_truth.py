"""Labels find their predictions, by id and by the key of an entity."""

from __future__ import annotations

import json

import pytest

from mainspring.core import InvalidInput
from mainspring.datasets import infer_schema, profile_frame
from mainspring.monitoring import Window, count_labels, frame_labels, measure_window, prediction_frame
from mainspring.serving import LabelRecord
from mainspring.serving.labels import read_label_request
from mainspring.serving.log import SegmentLog


def _by_key(value, at, label=1.0, *, column="user", time=None):
    when = at if time is None else time
    return LabelRecord(label=label, time=when, received_at=when, column=column, value=value, at=at)


@pytest.fixture
def records(predict):
    """Two entities; the first is predicted twice, the second in a request with others."""
    return [
        predict("a", [0.1], at=10, inputs={"user": ["ada"], "shop": [7]}),
        predict("b", [0.2], at=20, inputs={"user": ["ada"], "shop": [7]}),
        predict("c", [0.3, 0.4], at=15, inputs={"user": ["bob", "eve"], "shop": [8.0, 9.5]}),
        predict("b", [0.9], at=20, variant="canary", shadow=True),
    ]


def _labels_of(records, labels):
    frame = prediction_frame(records, labels)
    return {
        (id, variant): label
        for id, variant, label in frame.select("prediction_id", "variant", "label").iter_rows()
        if label is not None
    }


def test_a_label_by_key_is_for_the_newest_prediction_at_its_moment(records):
    assert _labels_of(records, [_by_key("ada", 12)]) == {("a:0", "champion"): 1.0}
    assert _labels_of(records, [_by_key("ada", 99)]) == {("b:0", "champion"): 1.0, ("b:0", "canary"): 1.0}
    assert _labels_of(records, [_by_key("ada", 9), _by_key("nobody", 99)]) == {}
    assert _labels_of(records, [_by_key("eve", 15)]) == {("c:1", "champion"): 1.0}


def test_numbers_are_keys_however_they_were_written(records):
    assert _labels_of(records, [_by_key("7", 12, column="shop"), _by_key("9.5", 20, column="shop")]) == {
        ("a:0", "champion"): 1.0, ("c:1", "champion"): 1.0,
    }  # fmt: skip
    assert _labels_of(records, [_by_key("8", 20, column="shop")]) == {("c:0", "champion"): 1.0}


def test_the_newest_truth_wins_by_whichever_way_it_came(records, label):
    assert _labels_of(records, [label("a:0", 0, at=50), _by_key("ada", 12, 1.0, time=60)])["a:0", "champion"] == 1.0
    assert _labels_of(records, [label("a:0", 0, at=70), _by_key("ada", 12, 1.0, time=60)])["a:0", "champion"] == 0.0
    late = [
        LabelRecord(id="a:0", label=1, time=90, received_at=1),
        LabelRecord(id="a:0", label=0, time=80, received_at=2),
    ]
    assert _labels_of(records, late)["a:0", "champion"] == 1.0


def test_a_window_counts_the_labels_by_key_whose_moment_is_in_it(records):
    labels = [_by_key("ada", 12, time=500), _by_key("ada", 25, 0.0, time=600)]
    report = measure_window(Window(start=10, end=18), records, labels)
    assert (report.labels.labelled, report.volume.rows) == (1, 3)
    assert measure_window(Window(start=18, end=30), records, labels).labels.labelled == 1


def test_labels_are_counted_against_the_log(records, tmp_path, clock, label):
    log = SegmentLog(tmp_path, clock)
    log.append(records)
    log.close()
    labels = [
        label("a:0", 1),
        label("a:0", 0, at=5),
        label("c:7", 1),
        label("zz:0", 1),
        _by_key("bob", 20),
        _by_key("x", 9),
    ]
    counted = count_labels(tmp_path, labels)
    assert (counted.labels, counted.matched, counted.unknown, counted.repeated) == (6, 2, 3, 1)
    assert count_labels(tmp_path / "none", []).labels == 0
    assert frame_labels([]).key_columns == []


def _read(*entries):
    return read_label_request(json.dumps({"labels": entries}).encode(), 77)


def test_labels_are_read_by_id_and_by_key():
    found = _read(
        {"id": "r:0", "label": 1, "time": 5}, {"key": {"flight": "UA1"}, "at": 3, "label": 0.5, "time": 9},
        {"key": {"shop": 7.0}, "at": 3, "label": 0, "time": 9},
    )  # fmt: skip
    assert found[0] == LabelRecord(id="r:0", label=1, time=5, received_at=77)
    assert found[1] == LabelRecord(label=0.5, time=9, received_at=77, column="flight", value="UA1", at=3)
    assert found[2].value == "7"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"label": 1, "time": 5}, "id or key"),
        ({"id": "r:0", "key": {"a": 1}, "at": 1, "label": 1, "time": 5}, "id or key"),
        ({"key": {"a": 1}, "label": 1, "time": 5}, "at missing"),
        ({"key": {"a": 1, "b": 2}, "at": 1, "label": 1, "time": 5}, "one column"),
        ({"key": {"": 1}, "at": 1, "label": 1, "time": 5}, "not a name"),
        ({"key": {"a": [1]}, "at": 1, "label": 1, "time": 5}, "a text or a number"),
        ({"key": {"a": True}, "at": 1, "label": 1, "time": 5}, "a text or a number"),
        ({"key": {"a": 10**400}, "at": 1, "label": 1, "time": 5}, "out of range"),
        ({"key": {"a": "x" * 300}, "at": 1, "label": 1, "time": 5}, "too long"),
        ({"key": {"a": 1}, "at": -1, "label": 1, "time": 5}, "at must be milliseconds"),
    ],
)
def test_an_entry_that_says_nothing_clear_is_refused(entry, problem):
    with pytest.raises(InvalidInput, match=problem):
        _read(entry)


def test_personal_columns_are_not_measured(predict, records):
    import polars as pl

    schema = infer_schema(profile_frame(pl.DataFrame({"age": [30, 40, 50], "user": ["a", "b", "c"]})))
    hidden = [
        predict(f"h{n}", [0.5], at=n, inputs={"age": [35], "user": [f"hmac:{n}"]}, hidden=["user"]) for n in range(20)
    ]
    report = measure_window(Window(start=0, end=100), hidden, [], schema=schema, features=["age", "user"])
    assert report.anomalies == []
    shown = [predict(f"h{n}", [0.5], at=n, inputs={"age": [35], "user": ["strange"]}) for n in range(20)]
    assert measure_window(Window(start=0, end=100), shown, [], schema=schema, features=["age", "user"]).anomalies


def test_requests_are_estimated_where_only_a_sample_is_logged(predict):
    sampled = [predict(f"s{n}", [0.5], at=n, sample=0.1) for n in range(30)]
    refused = [predict("bad", None, at=1, status=400)]
    volume = measure_window(Window(start=0, end=100), sampled + refused, []).volume
    assert (volume.requests, volume.refused, volume.rows, volume.sample) == (301, 1, 30, 0.1)
