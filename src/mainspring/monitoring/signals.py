"""Signals: the numbers of a report that people watch, each with its threshold and what it means now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from mainspring.monitoring.measure import WindowReport
from mainspring.monitoring.performance import Estimate, Performance

SignalState = Literal["ok", "attention"]
MAX_REFUSED = 0.01
MAX_PSI = 0.2
"""The usual rule of thumb. On real data it is passed most of the time, which is why drift triggers nothing."""
STANDARD_ERRORS = 3.0
MIN_EXCESS_LOSS = 0.02
"""Log loss above the expected one (nats per row) that is worth a look, however many rows there are."""
MIN_CALIBRATION_GAP = 0.05
SERVED = "served"


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One number: what was measured, on whom (``subject``: a column, ``served``, ``champion@3``), on how many rows."""

    name: str
    subject: str
    value: float | None
    n: int
    threshold: float | None
    state: SignalState


def read_signals(
    report: WindowReport, *, min_label_coverage: float = 0.5, expected_log_loss: Mapping[str, float] | None = None
) -> list[Signal]:
    """Turn a report into signals; ``expected_log_loss`` is each version's loss on its hold-out."""
    return [
        *_volume_signals(report),
        *_data_signals(report),
        *_label_signals(report, min_label_coverage),
        *_performance_signals(report, expected_log_loss or {}),
    ]


def expected_loss(answered_by: Mapping[str, int], expected_log_loss: Mapping[str, float]) -> float | None:
    """Return the loss to be expected of the answers: each version's own, weighted by its rows; None if unknown."""
    known = {version: rows for version, rows in answered_by.items() if version in expected_log_loss}
    total = sum(known.values())
    if total == 0:
        return None
    return sum(rows * expected_log_loss[version] for version, rows in known.items()) / total


def _volume_signals(report: WindowReport) -> Iterator[Signal]:
    volume = report.volume
    yield _signal("volume.rows", "", float(volume.rows), volume.requests, attention=volume.rows == 0)
    refused = volume.refused / volume.requests if volume.requests else 0.0
    yield _signal(
        "volume.refused", "", refused, volume.requests, threshold=MAX_REFUSED, attention=refused > MAX_REFUSED
    )


def _data_signals(report: WindowReport) -> Iterator[Signal]:
    rows = report.volume.rows
    for anomaly in report.anomalies:
        yield _signal(f"anomaly.{anomaly.type}", anomaly.path, None, rows, attention=anomaly.severity == "ERROR")
    if report.drift is None:
        return
    for drift in report.drift.columns:
        yield _psi("drift.psi", drift.column, drift.psi, rows)
    yield _psi("drift.weighted_psi", "", report.drift.weighted_psi, rows)
    yield _psi("drift.score_psi", SERVED, report.drift.score_psi, rows)


def _psi(name: str, subject: str, value: float | None, rows: int) -> Signal:
    return _signal(name, subject, value, rows, threshold=MAX_PSI, attention=value is not None and value > MAX_PSI)


def _label_signals(report: WindowReport, min_coverage: float) -> Iterator[Signal]:
    labels, rows = report.labels, report.volume.rows
    few = rows > 0 and labels.coverage < min_coverage
    yield _signal("labels.coverage", "", labels.coverage, rows, threshold=min_coverage, attention=few)
    yield _signal("labels.unusable", "", float(labels.unusable), rows, threshold=0.0, attention=labels.unusable > 0)
    yield _signal("labels.lag_median_ms", "", labels.lag_median, labels.labelled)
    yield _signal("labels.lag_p90_ms", "", labels.lag_p90, labels.labelled)


def _performance_signals(report: WindowReport, expected: Mapping[str, float]) -> Iterator[Signal]:
    if report.served is not None:
        yield from _of_performance(SERVED, report.served, expected_loss(report.answered_by, expected))
    for variant in report.variants:
        if variant.performance is not None:
            yield from _of_performance(
                f"{variant.variant}@{variant.version}",
                variant.performance,
                expected.get(variant.version),
                matters=variant.answered > 0,
            )


def _of_performance(
    subject: str, measured: Performance, expected: float | None, *, matters: bool = True
) -> Iterator[Signal]:
    """Yield the signals of one subject; what only shadows (``matters`` false) never needs attention."""
    loss, gap = measured.log_loss, measured.calibration_gap
    loss_limit = None if expected is None else expected + _allow(loss, MIN_EXCESS_LOSS)
    worse = loss_limit is not None and loss.value > loss_limit
    yield _signal(
        "performance.log_loss", subject, loss.value, loss.n, threshold=loss_limit, attention=matters and worse
    )
    gap_limit = _allow(gap, MIN_CALIBRATION_GAP)
    off = abs(gap.value) > gap_limit
    yield _signal(
        "performance.calibration_gap", subject, gap.value, gap.n, threshold=gap_limit, attention=matters and off
    )
    yield _signal("performance.brier", subject, measured.brier.value, measured.n)
    yield _signal("performance.accuracy", subject, measured.accuracy.value, measured.n)
    yield _signal("performance.auc", subject, measured.auc.value if measured.auc else None, measured.n)


def _allow(estimate: Estimate, least: float) -> float:
    """Return how far an estimate may be off: an effect that matters, and more than its noise."""
    return max(least, STANDARD_ERRORS * (estimate.standard_error or 0.0))


def _signal(
    name: str, subject: str, value: float | None, n: int, *, threshold: float | None = None, attention: bool = False
) -> Signal:
    state: SignalState = "attention" if attention else "ok"
    return Signal(name=name, subject=subject, value=value, n=n, threshold=threshold, state=state)
