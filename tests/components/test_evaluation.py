from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest

from mainspring.components import Measure, Report, judge_reports, make_report, measure, plot_data
from mainspring.components.targets import Target, read_target
from mainspring.core import InvalidInput

RANDOM = np.random.default_rng(0)


def binary(rows: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated scores, rounded so that there are ties."""
    scores = np.round(RANDOM.beta(1, 2, rows), 2)
    return np.stack([1 - scores, scores], axis=1), (RANDOM.random(rows) < scores).astype(float)


def several(rows: int = 900) -> tuple[np.ndarray, np.ndarray]:
    scores = RANDOM.dirichlet([1, 1, 1], rows)
    return scores, np.array([RANDOM.choice(3, p=row) for row in scores], dtype=float)


def test_measures_of_a_binary_target_are_scikit_learns() -> None:
    from sklearn import metrics

    scores, labels = binary()
    found, predicted = measure("binary", scores, labels), scores.argmax(axis=1)
    expected = {
        "log_loss": metrics.log_loss(labels, np.clip(scores[:, 1], 1e-6, 1 - 1e-6)),
        "auc": metrics.roc_auc_score(labels, scores[:, 1]),
        "brier": metrics.brier_score_loss(labels, scores[:, 1]),
        "accuracy": metrics.accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted),
        "recall": metrics.recall_score(labels, predicted),
        "f1_macro": metrics.f1_score(labels, predicted, average="macro"),
        "calibration_gap": scores[:, 1].mean() - labels.mean(),
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    assert found.keys() == expected.keys()


def test_measures_of_several_classes_and_of_numbers_are_scikit_learns() -> None:
    from sklearn import metrics

    scores, labels = several()
    found = measure("multiclass", scores, labels)
    assert found["log_loss"].value == pytest.approx(metrics.log_loss(labels, scores), rel=1e-4)
    assert found["f1_macro"].value == pytest.approx(metrics.f1_score(labels, scores.argmax(axis=1), average="macro"))
    truth = RANDOM.normal(size=500)
    guess = truth + RANDOM.normal(scale=0.5, size=500)
    found = measure("regression", guess, truth)
    assert found["rmse"].value == pytest.approx(metrics.root_mean_squared_error(truth, guess))
    assert found["mae"].value == pytest.approx(metrics.mean_absolute_error(truth, guess))
    assert found["r2"].value == pytest.approx(metrics.r2_score(truth, guess))
    assert found["median_absolute_error"].value == pytest.approx(metrics.median_absolute_error(truth, guess))


def test_intervals_hold_the_truth_about_95_times_in_100() -> None:
    """Drawn 50 times from a known source, each interval covers the true value 86 to 100 % of the times."""
    random, times = np.random.default_rng(1), 50
    truth = {"rmse": 0.5, "mae": 0.5 * (2 / np.pi) ** 0.5, "bias": 0.0, "r2": 0.75}
    covered = dict.fromkeys(truth, 0)
    for _ in range(times):
        sample = random.normal(size=(200, 2))
        found = measure("regression", sample[:, 0] + 0.5 * sample[:, 1], sample[:, 0])
        for name in covered:
            low, high = found[name].low, found[name].high
            assert low is not None
            assert high is not None
            covered[name] += low <= truth[name] <= high
    assert all(0.86 <= count / times <= 1 for count in covered.values()), covered


def test_what_one_class_cannot_tell_is_left_open() -> None:
    scores = np.array([[0.4, 0.6], [0.3, 0.7]])
    found = measure("binary", scores, np.ones(2))
    assert found["auc"] == Measure(value=None, low=None, high=None)
    report = make_report("binary", "y", Target(pl.DataFrame({"n": [1, 2]}), np.ones(2), (0, 1)), scores)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    assert plot_data("binary", scores, np.ones(2)).roc is None


def test_plots_are_the_curves_scikit_learn_draws() -> None:
    from sklearn import metrics

    scores, labels = binary(5_000)
    plots = plot_data("binary", scores, labels)
    assert plots.roc is not None
    assert plots.precision_recall is not None
    assert (plots.roc.x[0], plots.roc.y[0], plots.roc.x[-1], plots.roc.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(plots.roc.y, plots.roc.x) == pytest.approx(
        metrics.roc_auc_score(labels, scores[:, 1]), abs=1e-3
    )
    assert len(plots.roc.x) == len(plots.roc.threshold) <= 200
    for recall, precision, threshold in zip(
        plots.precision_recall.x, plots.precision_recall.y, plots.precision_recall.threshold, strict=True
    ):
        chosen = scores[:, 1] >= threshold
        assert precision == pytest.approx(labels[chosen].mean())
        assert recall == pytest.approx(labels[chosen].sum() / labels.sum())
    assert plots.confusion == metrics.confusion_matrix(labels, scores.argmax(axis=1)).tolist()
    assert [part.rows for part in plots.calibration] == [500] * 10
    assert all(abs(part.score - part.label) < 0.1 for part in plots.calibration)


def test_slices_are_measured_apart_and_small_ones_left_out() -> None:
    scores, labels = binary(300)
    rows = pl.DataFrame({"kind": ["a"] * 200 + ["b"] * 90 + ["rare"] * 9 + [None]})
    report = make_report("binary", "y", Target(rows, labels, (0, 1)), scores, slices=["kind"])
    assert [(part.name, part.rows) for part in report.slices] == [("kind=a", 200), ("kind=b", 90)]
    assert report.slices[1].measures == measure("binary", scores[200:290], labels[200:290])
    assert report.slices[1].loss == pytest.approx(np.mean(report.losses[200:290]), abs=1e-5)


def numbers(error: float, rows: int = 400) -> Report:
    truth = np.random.default_rng(7).normal(size=rows)
    guess = truth + error * np.random.default_rng(8).normal(size=rows)
    return make_report("regression", "y", Target(pl.DataFrame({"n": range(rows)}), truth), guess)


def test_a_regression_is_gated_on_its_squared_errors() -> None:
    assert judge_reports(numbers(0.5), None).passed
    refused = judge_reports(numbers(1.5), None)
    assert not refused.passed
    assert "of the best constant prediction" in refused.reason
    assert judge_reports(numbers(0.4), numbers(0.5)).passed
    assert not judge_reports(numbers(0.5), numbers(0.4)).passed
    assert not judge_reports(numbers(0.4), numbers(0.4)).passed


def test_reports_of_different_targets_are_not_compared() -> None:
    scores, labels = binary(400)
    other = make_report("binary", "y", Target(pl.DataFrame({"n": range(400)}), labels, (0, 1)), scores)
    with pytest.raises(InvalidInput, match="Compare models of one target"):
        judge_reports(other, numbers(0.4))


def test_labels_keep_the_places_of_the_models_classes() -> None:
    frame = pl.DataFrame({"y": ["b", None, "b", "c"]})
    target = read_target(frame, "y", "multiclass", ("a", "b", "c"))
    assert target.labels.tolist() == [1, 1, 2]
    with pytest.raises(InvalidInput, match="does not know the class 'c'"):
        read_target(frame, "y", "multiclass", ("a", "b"))
