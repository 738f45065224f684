from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.monitoring import accuracy, auc, brier, calibration_gap, log_loss, measure_performance, row_losses

rows = st.lists(st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.integers(0, 1)), min_size=1, max_size=60)


def split(pairs):
    scores, labels = zip(*pairs, strict=True)
    return np.array(scores, dtype=float), np.array(labels, dtype=float)


@given(rows)
def test_auc_is_the_share_of_pairs_in_the_right_order_with_ties_as_half(pairs):
    scores, labels = split(pairs)
    good, bad = scores[labels == 1], scores[labels == 0]
    found = auc(scores, labels)
    if not good.size or not bad.size:
        assert math.isnan(found.value)
        assert found.standard_error is None
        return
    ordered = (good[:, None] > bad[None, :]).mean() + (good[:, None] == bad[None, :]).mean() / 2
    assert found.value == pytest.approx(ordered)


@given(rows)
def test_the_measures_agree_with_their_definitions(pairs):
    scores, labels = split(pairs)
    clipped = [min(max(s, 1e-6), 1 - 1e-6) for s in scores]
    losses = [-math.log(s if y else 1 - s) for s, y in zip(clipped, labels, strict=True)]
    assert row_losses(scores, labels) == pytest.approx(losses)
    assert log_loss(scores, labels).value == pytest.approx(sum(losses) / len(losses))
    assert brier(scores, labels).value == pytest.approx(np.mean((scores - labels) ** 2))
    assert calibration_gap(scores, labels).value == pytest.approx(scores.mean() - labels.mean(), abs=1e-12)
    assert accuracy(scores, labels).value == pytest.approx(np.mean((scores >= 0.5) == (labels == 1)))


def test_standard_errors_are_those_of_repeated_samples():
    random = np.random.default_rng(2)
    areas, losses, errors = [], [], []
    for _ in range(200):
        labels = (random.random(400) < 0.3).astype(float)
        scores = 1 / (1 + np.exp(-(random.normal(size=400) + labels)))
        areas.append(auc(scores, labels))
        losses.append(log_loss(scores, labels).value)
        errors.append(log_loss(scores, labels).standard_error)
    assert np.mean([area.standard_error for area in areas]) == pytest.approx(np.std([a.value for a in areas]), rel=0.2)
    assert np.mean(errors) == pytest.approx(np.std(losses), rel=0.2)


def test_one_sure_mistake_costs_a_finite_amount():
    assert log_loss(np.array([0.0]), np.array([1.0])).value == pytest.approx(-math.log(1e-6))


def test_no_rows_have_no_performance():
    nothing = np.array([])
    assert measure_performance(nothing, nothing) is None
    assert math.isnan(log_loss(nothing, nothing).value)


def test_one_class_has_a_loss_but_no_auc():
    measured = measure_performance(np.array([0.2, 0.4]), np.array([0.0, 0.0]))
    assert measured is not None
    assert measured.auc is None
    assert measured.n == 2
    assert measured.calibration_gap.value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [([0.5], [0.0, 1.0]), ([0.5], [2.0]), ([0.5], [math.nan]), ([1.5], [1.0]), ([math.nan], [1.0]), ([[0.5]], [[1.0]])],
)
def test_what_is_not_a_score_and_a_label_is_refused(scores, labels):
    with pytest.raises(InvalidInput):
        measure_performance(np.array(scores), np.array(labels))
