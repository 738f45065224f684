"""Windows over the prediction log: volume, anomalies, drift, labels and performance, as signals."""

from __future__ import annotations

from mainspring.monitoring.frames import answered_rows, feature_frame, label_frame, labelled_rows, prediction_frame
from mainspring.monitoring.measure import (
    Drift,
    Labels,
    VariantPerformance,
    Volume,
    WindowReport,
    measure_window,
)
from mainspring.monitoring.pairs import PairedLosses, pair_losses, paired_losses
from mainspring.monitoring.performance import (
    Estimate,
    Performance,
    accuracy,
    auc,
    brier,
    calibration_gap,
    log_loss,
    measure_performance,
    row_losses,
)
from mainspring.monitoring.signals import Signal, expected_loss, read_signals
from mainspring.monitoring.store import (
    MeasuredWindow,
    get_window,
    last_window_end,
    list_windows,
    save_report,
    signals_of,
)
from mainspring.monitoring.windows import Window, due_windows

__all__ = [
    "Drift",
    "Estimate",
    "Labels",
    "MeasuredWindow",
    "PairedLosses",
    "Performance",
    "Signal",
    "VariantPerformance",
    "Volume",
    "Window",
    "WindowReport",
    "accuracy",
    "answered_rows",
    "auc",
    "brier",
    "calibration_gap",
    "due_windows",
    "expected_loss",
    "feature_frame",
    "get_window",
    "label_frame",
    "labelled_rows",
    "last_window_end",
    "list_windows",
    "log_loss",
    "measure_performance",
    "measure_window",
    "pair_losses",
    "paired_losses",
    "prediction_frame",
    "read_signals",
    "row_losses",
    "save_report",
    "signals_of",
]
