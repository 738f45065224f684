"""What one looks at when judging a model, as numbers to draw: curves, calibration, confusion, residuals."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.components.estimators import Task
from mainspring.components.measures import confusion_matrix

Floats = NDArray[np.float64]
POINTS = 200
"""A curve has at most this many points."""
BINS = 10


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A line; ``threshold`` is the score from which on a row counts as positive at each point."""

    x: list[float]
    y: list[float]
    threshold: list[float]


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Rows with about the same score: their mean score, the mean of their labels, how many."""

    score: float
    label: float
    rows: int


class Plots(msgspec.Struct, frozen=True, kw_only=True):
    """Data of plots; what does not fit the task is None or empty.

    ``roc`` is true positive rate over false positive rate, ``precision_recall`` precision over recall. ``calibration``
    holds ten equally large bins by score, of predictions for a regression. ``confusion`` has true classes as rows.
    ``residuals`` are the 0, 5, …, 100 % quantiles of prediction minus label.
    """

    roc: Curve | None = None
    precision_recall: Curve | None = None
    calibration: list[Bin] = []
    confusion: list[list[int]] = []
    residuals: list[float] = []


def plot_data(task: Task, scores: Floats, labels: Floats) -> Plots:
    """Return the data of a task's plots; shapes as in `mainspring.components.measures.measure`."""
    if task == "regression":
        quantiles = np.quantile(scores - labels, np.linspace(0, 1, 21))
        return Plots(calibration=_bins(scores, labels), residuals=[float(value) for value in quantiles])
    confusion = confusion_matrix(scores, labels).tolist()
    if task == "multiclass":
        return Plots(confusion=confusion)
    positive = scores[:, 1]
    is_mixed = 0 < labels.sum() < len(labels)
    roc, precision_recall = _curves(positive, labels) if is_mixed else (None, None)
    return Plots(roc=roc, precision_recall=precision_recall, calibration=_bins(positive, labels), confusion=confusion)


def _curves(scores: Floats, labels: Floats) -> tuple[Curve, Curve]:
    """Return the ROC and the precision-recall curve; rows with equal scores pass the threshold together."""
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(labels[order])
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    keep = last[np.unique(np.linspace(0, len(last) - 1, POINTS - 1).round().astype(np.int64))]
    true, all_positive, seen = hits[keep], hits[-1], keep + 1.0
    false = seen - true
    threshold = ordered[keep].tolist()
    roc = Curve(
        x=[0.0, *(false / (len(labels) - all_positive)).tolist()],
        y=[0.0, *(true / all_positive).tolist()],
        threshold=[1.0, *threshold],
    )
    return roc, Curve(x=(true / all_positive).tolist(), y=(true / seen).tolist(), threshold=threshold)


def _bins(scores: Floats, labels: Floats) -> list[Bin]:
    parts = np.array_split(np.argsort(scores, kind="stable"), BINS)
    return [
        Bin(score=float(scores[part].mean()), label=float(labels[part].mean()), rows=len(part))
        for part in parts
        if len(part)
    ]
