"""How good scores were, once the labels are known: numbers with their n and standard error."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.core import InvalidInput

Floats = npt.NDArray[np.float64]
CLIP = 1e-6
"""Scores are kept this far from 0 and 1, so that one sure mistake costs 13.8 nats and not infinitely many."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number measured on ``n`` rows, with its standard error (None where it is undefined)."""

    value: float
    standard_error: float | None
    n: int


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """How scores of a binary target compare with the labels.

    ``calibration_gap`` is the mean score minus the mean label; ``auc`` is None when there is only one class.
    """

    n: int
    positive_rate: float
    log_loss: Estimate
    brier: Estimate
    accuracy: Estimate
    calibration_gap: Estimate
    auc: Estimate | None


def row_losses(scores: Floats, labels: Floats) -> Floats:
    """Return the log loss of every row in nats; scores are clipped by `CLIP`."""
    clipped = np.clip(scores, CLIP, 1.0 - CLIP)
    losses: Floats = -np.log(np.where(labels > 0.5, clipped, 1.0 - clipped))
    return losses


def log_loss(scores: Floats, labels: Floats) -> Estimate:
    """Return the mean log loss in nats; NaN if there are no rows."""
    _check(scores, labels)
    return _mean(row_losses(scores, labels))


def brier(scores: Floats, labels: Floats) -> Estimate:
    """Return the mean squared difference of score and label; NaN if there are no rows."""
    _check(scores, labels)
    return _mean((scores - labels) ** 2)


def accuracy(scores: Floats, labels: Floats) -> Estimate:
    """Return the share of rows on whose label a cut at 0.5 agrees; NaN if there are no rows."""
    _check(scores, labels)
    return _mean(((scores >= 0.5) == (labels > 0.5)).astype(np.float64))


def calibration_gap(scores: Floats, labels: Floats) -> Estimate:
    """Return the mean score minus the mean label; NaN if there are no rows."""
    _check(scores, labels)
    return _mean(scores - labels)


def auc(scores: Floats, labels: Floats) -> Estimate:
    """Return the area under the ROC curve; ties count half; NaN if there is only one class.

    Rank-based, O(n log n); standard error of Hanley & McNeil (1982).
    """
    _check(scores, labels)
    positives = int((labels > 0.5).sum())
    negatives = scores.size - positives
    if positives == 0 or negatives == 0:
        return Estimate(value=math.nan, standard_error=None, n=scores.size)
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(mid_ranks[group][labels > 0.5].sum())
    area = (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)
    q1, q2 = area / (2.0 - area), 2.0 * area * area / (1.0 + area)
    variance = area * (1.0 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    error = math.sqrt(max(variance, 0.0) / (positives * negatives))
    return Estimate(value=area, standard_error=error, n=scores.size)


def measure_performance(scores: Floats, labels: Floats) -> Performance | None:
    """Compare scores in [0, 1] with labels in {0, 1}; None if there are no rows."""
    if scores.size == 0:
        return None
    area = auc(scores, labels)
    return Performance(
        n=scores.size,
        positive_rate=float(labels.mean()),
        log_loss=log_loss(scores, labels),
        brier=brier(scores, labels),
        accuracy=accuracy(scores, labels),
        calibration_gap=calibration_gap(scores, labels),
        auc=None if math.isnan(area.value) else area,
    )


def _check(scores: Floats, labels: Floats) -> None:
    if scores.shape != labels.shape or scores.ndim != 1:
        raise InvalidInput(f"Scores of the shape {scores.shape} do not fit labels of the shape {labels.shape}.")
    if not ((labels == 0.0) | (labels == 1.0)).all():
        raise InvalidInput("Labels of a binary target must be 0 or 1.", hint="Send 0 or 1 as the label.")
    if not ((scores >= 0.0) & (scores <= 1.0)).all():
        raise InvalidInput("Scores of a binary target must lie between 0 and 1.", hint="Serve probabilities.")


def _mean(values: Floats) -> Estimate:
    if values.size == 0:
        return Estimate(value=math.nan, standard_error=None, n=0)
    error = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else None
    return Estimate(value=float(values.mean()), standard_error=error, n=values.size)
