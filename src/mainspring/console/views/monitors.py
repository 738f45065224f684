"""Monitors: what was measured on each window of an endpoint's predictions."""

from __future__ import annotations

import msgspec

from mainspring.console.charts import Chart
from mainspring.console.views.figures import MARKED, HeatMap, coverage_chart, drift_map, loss_chart
from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import to
from mainspring.core import NotFound
from mainspring.core.project import MonitorConfig
from mainspring.datasets import Anomaly, ColumnDrift
from mainspring.lineage import Store, list_events
from mainspring.monitoring import (
    MeasuredWindow,
    Performance,
    Signal,
    VariantPerformance,
    get_window,
    list_windows,
    signals_of,
)

SHOWN = 60
"""How many windows a page shows; said on the page when there are more."""


class MonitorRow(msgspec.Struct, frozen=True, kw_only=True):
    """A monitor and its newest window, if it has measured one."""

    name: str
    endpoint: str
    window: str
    windows: int
    last: WindowRow | None


class Monitors(msgspec.Struct, frozen=True, kw_only=True):
    """All monitors of the project."""

    head: Head
    rows: list[MonitorRow]


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a window that fit into a row."""

    id: str
    href: str
    start: int
    end: int
    measured_at: int
    rows: int
    labelled: int
    coverage: float
    served: Performance | None
    baseline: Performance | None
    anomalies: int
    attention: list[str]
    event: str


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor: its windows newest first, its charts, and the drift of every feature."""

    head: Head
    name: str
    config: MonitorConfig | None
    windows: list[WindowRow]
    performance: Chart
    coverage: Chart
    drift: HeatMap
    shown: int


class WindowPage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured on one window."""

    head: Head
    monitor: str
    row: WindowRow
    requests: int
    refused: int
    variants: list[VariantPerformance]
    columns: list[ColumnDrift]
    weighted_psi: float | None
    score_psi: float | None
    lag_median: float | None
    lag_p90: float | None
    anomalies: list[Anomaly]
    signals: list[Signal]
    older: str
    newer: str


def show_monitors(store: Store) -> Monitors:
    """Show every monitor with its newest window."""
    with store.database.read() as connection:
        measured = {name: list_windows(connection, name) for name in store.project.monitors}
    rows = [
        MonitorRow(
            name=name,
            endpoint=config.endpoint,
            window=config.window,
            windows=len(measured[name]),
            last=window_row(measured[name][-1]) if measured[name] else None,
        )
        for name, config in store.project.monitors.items()
    ]
    return Monitors(head=_head(store, "Monitors", "/monitors", "list_windows(connection, NAME)"), rows=rows)


def show_monitor(store: Store, name: str) -> Monitor:
    """Show one monitor; raise `NotFound` if neither the project nor the store knows it."""
    config = store.project.monitors.get(name)
    with store.database.read() as connection:
        windows = list_windows(connection, name, limit=SHOWN)
        events = list_events(connection, types=tuple(MARKED), limit=1000)
        signals = {window.id: signals_of(connection, window.id) for window in windows}
    if config is None and not windows:
        raise NotFound(f"There is no monitor {name}.", hint="Monitors are declared in mainspring.yaml.")
    return Monitor(
        head=_head(store, f"Monitor {name}", to("monitors", name), f"list_windows(connection, {name!r})"),
        name=name,
        config=config,
        windows=[window_row(window, signals[window.id]) for window in reversed(windows)],
        performance=loss_chart(windows, events),
        coverage=coverage_chart(windows),
        drift=drift_map(name, windows),
        shown=SHOWN,
    )


def show_window(store: Store, name: str, window_id: str) -> WindowPage:
    """Show one window; raise `NotFound`."""
    with store.database.read() as connection:
        window = get_window(connection, window_id)
        signals = signals_of(connection, window_id)
        if window.monitor != name:
            raise NotFound(f"Monitor {name} has not measured a window {window_id}.")
        links = [(found.end_ms, to("monitors", name, found.id)) for found in list_windows(connection, name)]
    report = window.report
    return WindowPage(
        head=_head(
            store,
            f"Window of {window.monitor}",
            to("monitors", name, window_id),
            f"get_window(connection, {window_id!r})",
        ),
        monitor=window.monitor,
        row=window_row(window, signals),
        requests=report.volume.requests,
        refused=report.volume.refused,
        variants=report.variants,
        columns=sorted(report.drift.columns, key=lambda drift: -(drift.psi or 0.0)) if report.drift else [],
        weighted_psi=report.drift.weighted_psi if report.drift else None,
        score_psi=report.drift.score_psi if report.drift else None,
        lag_median=report.labels.lag_median,
        lag_p90=report.labels.lag_p90,
        anomalies=report.anomalies,
        signals=signals,
        older=next((href for end, href in reversed(links) if end < window.end_ms), ""),
        newer=next((href for end, href in links if end > window.end_ms), ""),
    )


def window_row(window: MeasuredWindow, signals: list[Signal] | None = None) -> WindowRow:
    """Pick the figures of a window that fit into a row."""
    report = window.report
    baseline = (variant.performance for variant in report.variants if variant.variant == "baseline")
    return WindowRow(
        id=window.id,
        href=to("monitors", window.monitor, window.id),
        start=window.start_ms,
        end=window.end_ms,
        measured_at=window.measured_at,
        rows=window.rows,
        labelled=window.labelled,
        coverage=report.labels.coverage,
        served=report.served,
        baseline=next(baseline, None),
        anomalies=len(report.anomalies),
        attention=[_signal_name(signal) for signal in signals or [] if signal.state == "attention"],
        event=window.event,
    )


def _signal_name(signal: Signal) -> str:
    return f"{signal.name} {signal.subject}".strip()


def _head(store: Store, title: str, path: str, call: str) -> Head:
    return head_of(
        store.clock,
        title,
        "monitors",
        command=f"curl -s {store.settings.server_url}{path}.json",
        python=f"with store.database.read() as connection: {call}",
    )
