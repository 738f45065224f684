from __future__ import annotations

import time

import numpy as np
import pytest

from mainspring.core import InvalidInput
from mainspring.monitoring import feature_frame, label_frame, pair_losses, paired_losses, prediction_frame


def test_a_frame_has_a_row_per_predicted_row_and_variant_in_the_order_of_requests(predict):
    frame = prediction_frame(
        [
            predict("b", [0.3], at=20, inputs={"x": [3]}),
            predict("a", [0.1, 0.2], at=10, inputs={"x": [1, 2]}),
            predict("a", [0.5, 0.6], at=10, variant="canary", version="2", shadow=True),
        ]
    )
    assert frame["prediction_id"].to_list() == ["a:0", "a:0", "a:1", "a:1", "b:0"]
    assert frame["score"].to_list() == [0.1, 0.5, 0.2, 0.6, 0.3]
    assert frame["variant"].to_list() == ["champion", "canary", "champion", "canary", "champion"]
    assert frame["version"].to_list() == ["1", "2", "1", "2", "1"]
    assert frame["input.x"].to_list() == [1, None, 2, None, 3]


def test_features_come_once_from_the_answers_under_their_own_names(predict):
    frame = prediction_frame(
        [
            predict("a", [0.1, 0.2], inputs={"version": ["v", None], "label": [1, 2.5]}),
            predict("a", [0.1, 0.2], inputs={"version": ["v", None], "label": [1, 2.5]}, shadow=True, variant="s"),
            predict("b", [0.3], at=1, inputs={"label": [4]}),
        ]
    )
    assert feature_frame(frame).to_dict(as_series=False) == {"version": ["v", None, None], "label": [1.0, 2.5, 4.0]}


def test_refused_requests_are_not_in_the_frame(predict):
    frame = prediction_frame([predict("a", None, status=400, rows=3), predict("b", [0.5])])
    assert frame["prediction_id"].to_list() == ["b:0"]


def test_no_records_make_an_empty_frame_with_the_same_columns(predict, label):
    empty = prediction_frame([], [label("a:0", 1)])
    assert empty.height == 0
    assert set(empty.columns) == set(prediction_frame([predict("b", [0.5])]).columns)


def test_the_label_that_arrived_last_wins(predict, label):
    labels = [label("a:0", 0, at=70), label("a:0", 1, at=50), label("b:0", 0, at=60), label("b:0", 1, at=60)]
    frame = prediction_frame([predict("a", [0.1, 0.2]), predict("b", [0.1], at=1)], labels)
    assert frame["label"].to_list() == [0.0, None, 1.0]
    assert frame["labelled_at"].to_list() == [70, None, 60]
    assert label_frame([]).height == 0


def test_every_variant_of_a_row_gets_its_label(predict, label):
    frame = prediction_frame([predict("a", [0.1]), predict("a", [0.2], shadow=True, variant="s")], [label("a:0", 1)])
    assert frame["label"].to_list() == [1.0, 1.0]


def test_a_request_sent_twice_under_one_id_counts_once_per_variant(predict, label):
    records = [
        predict("a", [0.1], at=1), predict("a", [0.2], at=1, variant="canary", shadow=True),
        predict("a", [0.3], at=2, variant="canary"), predict("a", [0.4], at=2, shadow=True),
    ]  # fmt: skip
    frame = prediction_frame(records, [label("a:0", 1)])
    assert list(zip(frame["variant"], frame["score"], strict=True)) == [("champion", 0.1), ("canary", 0.2)]
    assert paired_losses(frame, "canary", "champion").size == 1


def test_outputs_that_are_not_numbers_are_refused(predict):
    with pytest.raises(InvalidInput, match="single numbers"):
        prediction_frame([predict("a", [[0.1, 0.9]])])


def test_pairs_are_the_labelled_rows_both_predicted_whoever_answered(predict, label):
    frame = prediction_frame(
        [
            predict("a", [0.5, 0.5], at=1),
            predict("a", [0.9, 0.5], at=1, variant="canary", shadow=True),
            predict("b", [0.5], at=2, variant="canary"),
            predict("b", [0.8], at=2, shadow=True),
            predict("c", [0.8], at=3),
        ],
        [label("a:0", 1), label("b:0", 0), label("c:0", 1)],
    )
    expected = [np.log(0.5) - np.log(0.9), np.log(0.2) - np.log(0.5)]
    assert paired_losses(frame, "canary", "champion") == pytest.approx(expected)
    assert paired_losses(frame, "champion", "canary") == pytest.approx([-value for value in expected])
    assert pair_losses(frame, "canary", "champion").requests.tolist() == [0, 1]
    assert paired_losses(frame, "canary", "nobody").size == 0


def test_rows_of_one_request_are_numbered_as_one(predict, label):
    records = [
        predict(id, [0.5] * n, at=at, variant=variant, shadow=variant != "champion")
        for id, n, at in (("a", 2, 1), ("b", 1, 1), ("c", 3, 5))
        for variant in ("champion", "canary")
    ]
    labels = [label(f"{id}:{row}", 1) for id, n in (("a", 2), ("b", 1), ("c", 3)) for row in range(n)]
    assert pair_losses(prediction_frame(records, labels), "canary", "champion").requests.tolist() == [0, 0, 1, 2, 2, 2]


def test_a_week_of_single_row_requests_is_quick(predict, label):
    inputs = {f"f{i}": [1.5] for i in range(19)}
    records = [
        predict(f"r{i}", [0.5], at=i, variant=variant, shadow=variant != "champion", inputs=inputs)
        for i in range(6500)
        for variant in ("champion", "canary", "baseline")
    ]
    labels = [label(f"r{i}:0", i % 2) for i in range(6500)]
    start = time.process_time()
    frame = prediction_frame(records, labels)
    assert frame.height == 19_500
    assert time.process_time() - start < 2.0
