"""Windows over the prediction log: volume, anomalies, drift, labels and performance, as signals."""

from __future__ import annotations

from mainspring.monitoring.arrivals import LabelCount, count_labels
from mainspring.monitoring.frames import (
    answered_rows,
    feature_frame,
    join_labels,
    label_frame,
    labelled_rows,
    order_rows,
    prediction_frame,
    table_frame,
)
from mainspring.monitoring.gathering import Volume
from mainspring.monitoring.measure import (
    Drift,
    Labels,
    VariantPerformance,
    WindowReport,
    measure_tables,
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
from mainspring.monitoring.sealing import SealingPolicy, check_log, seal_log, seal_logs
from mainspring.monitoring.signals import Signal, expected_loss, read_signals
from mainspring.monitoring.store import (
    MeasuredWindow,
    get_window,
    last_window_end,
    list_windows,
    save_report,
    signals_of,
)
from mainspring.monitoring.truth import LabelFrames, frame_labels
from mainspring.monitoring.windows import Window, due_windows

__all__ = [
    "Drift",
    "Estimate",
    "LabelCount",
    "LabelFrames",
    "Labels",
    "MeasuredWindow",
    "PairedLosses",
    "Performance",
    "SealingPolicy",
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
    "check_log",
    "count_labels",
    "due_windows",
    "expected_loss",
    "feature_frame",
    "frame_labels",
    "get_window",
    "join_labels",
    "label_frame",
    "labelled_rows",
    "last_window_end",
    "list_windows",
    "log_loss",
    "measure_performance",
    "measure_tables",
    "measure_window",
    "order_rows",
    "pair_losses",
    "paired_losses",
    "prediction_frame",
    "read_signals",
    "row_losses",
    "save_report",
    "seal_log",
    "seal_logs",
    "signals_of",
    "table_frame",
]
