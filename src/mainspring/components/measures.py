"""Measures of a model on labelled rows, each with a 95 % interval: binary, multiclass and regression.

Means (log loss, Brier score, accuracy, absolute error) have the interval of their standard error, the area under the
ROC curve that of Hanley & McNeil (1982), and what is neither (F1, R², …) a bootstrap's with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.components.estimators import Task
from mainspring.monitoring import auc

Floats = NDArray[np.float64]
CLIP = 1e-6
"""Probabilities are kept this far from 0, so that one sure mistake costs 13.8 nats and not infinitely many."""
Z95 = 1.959964
RESAMPLES = 500
_FEW = 50_000
"""Rows a bootstrap of rows is drawn from at most; its interval is scaled to all rows."""

PRIMARY = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
"""What a search minimises and a gate compares."""


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A number with the ends of its 95 % interval; None where it is undefined, such as the AUC of one class."""

    value: float | None
    low: float | None
    high: float | None


UNDEFINED = Measure(value=None, low=None, high=None)


def measure(task: Task, scores: Floats, labels: Floats) -> dict[str, Measure]:
    """Return every measure of a task.

    ``scores`` are predictions of shape (n,) for a regression, else probabilities of shape (n, classes); ``labels`` are
    numbers, or the places of the classes.
    """
    if task == "regression":
        return _measure_regression(scores, labels)
    places = labels.astype(np.int64)
    hits = (scores.argmax(axis=1) == places).astype(np.float64)
    found = {"log_loss": _mean(row_losses(task, scores, labels)), "accuracy": _mean(hits)}
    confusion = confusion_matrix(scores, labels)
    found["f1_macro"] = _resample_counts(confusion, _macro_f1)
    if task == "binary":
        area = auc(scores[:, 1], labels)
        found["auc"] = _around(area.value, area.standard_error, low=0.0, high=1.0)
        found["brier"] = _mean((scores[:, 1] - labels) ** 2)
        found["precision"] = _wilson(int(confusion[1, 1]), int(confusion[:, 1].sum()))
        found["recall"] = _wilson(int(confusion[1, 1]), int(confusion[1].sum()))
        found["calibration_gap"] = _mean(scores[:, 1] - labels)
    return found


def row_losses(task: Task, scores: Floats, labels: Floats) -> Floats:
    """Return the loss of every row: squared error, or log loss in nats."""
    if task == "regression":
        squared: Floats = (scores - labels) ** 2
        return squared
    chosen = scores[np.arange(len(labels)), labels.astype(np.int64)]
    losses: Floats = -np.log(np.clip(chosen, CLIP, 1.0 - CLIP))
    return losses


def constant_losses(task: Task, labels: Floats) -> Floats:
    """Return the row losses of the best constant: the mean, or the shares of the classes."""
    if task == "regression":
        return row_losses(task, np.full_like(labels, labels.mean()), labels)
    shares = np.bincount(labels.astype(np.int64)) / len(labels)
    return row_losses(task, np.tile(shares, (len(labels), 1)), labels)


def confusion_matrix(scores: Floats, labels: Floats) -> NDArray[np.int64]:
    """Return counts of shape (classes, classes): rows are true, columns predicted (the most probable)."""
    classes = scores.shape[1]
    flat = labels.astype(np.int64) * classes + scores.argmax(axis=1)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def _measure_regression(scores: Floats, labels: Floats) -> dict[str, Measure]:
    error = scores - labels
    squares = _mean(error**2)
    return {
        "rmse": Measure(value=_root(squares.value), low=_root(squares.low), high=_root(squares.high)),
        "mae": _mean(np.abs(error)),
        "bias": _mean(error),
        "r2": _resample_rows(scores, labels, _r2),
        "median_absolute_error": _resample_rows(scores, labels, _median_error),
    }


def _r2(scores: Floats, labels: Floats) -> float:
    spread = float(((labels - labels.mean()) ** 2).sum())
    return 1.0 - float(((scores - labels) ** 2).sum()) / spread if spread else math.nan


def _median_error(scores: Floats, labels: Floats) -> float:
    return float(np.median(np.abs(scores - labels)))


def _macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 of the classes that are there."""
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = both > 0
    return float((2.0 * np.diag(confusion)[present] / both[present]).mean())


def _mean(values: Floats) -> Measure:
    deviation = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return _around(float(values.mean()), deviation / math.sqrt(len(values)))


def _around(value: float, error: float | None, *, low: float = -math.inf, high: float = math.inf) -> Measure:
    if not math.isfinite(value):
        return UNDEFINED
    if error is None or not math.isfinite(error):
        return Measure(value=value, low=None, high=None)
    return Measure(value=value, low=max(low, value - Z95 * error), high=min(high, value + Z95 * error))


def _wilson(hits: int, n: int) -> Measure:
    """Return a share with Wilson's interval, which holds for few rows too; undefined of none."""
    if n == 0:
        return UNDEFINED
    share, square = hits / n, Z95**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z95 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Measure(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def _resample_counts(confusion: NDArray[np.int64], statistic: Callable[[NDArray[np.int64]], float]) -> Measure:
    """Bootstrap a statistic of a table of counts: drawing rows again is drawing the table again."""
    n = int(confusion.sum())
    drawn = np.random.default_rng(0).multinomial(n, confusion.ravel() / n, size=RESAMPLES)
    values = [statistic(counts.reshape(confusion.shape)) for counts in drawn]
    low, high = np.quantile(values, [0.025, 0.975])
    return Measure(value=statistic(confusion), low=float(low), high=float(high))


def _resample_rows(scores: Floats, labels: Floats, statistic: Callable[[Floats, Floats], float]) -> Measure:
    """Bootstrap a statistic of rows; of many rows a part is drawn, and the interval narrowed accordingly."""
    value, n = statistic(scores, labels), len(labels)
    random, size, times = np.random.default_rng(0), min(n, _FEW), RESAMPLES if n < 5_000 else 100
    drawn = [
        statistic(scores[places], labels[places]) for places in (random.integers(0, n, size) for _ in range(times))
    ]
    if not math.isfinite(value):
        return UNDEFINED
    if not np.isfinite(drawn).all():
        return Measure(value=value, low=None, high=None)
    low, high = np.quantile(drawn, [0.025, 0.975]) - value
    shrink = math.sqrt(size / n)
    return Measure(value=value, low=value + float(low) * shrink, high=value + float(high) * shrink)


def _root(square: float | None) -> float | None:
    return None if square is None else math.sqrt(max(0.0, square))
