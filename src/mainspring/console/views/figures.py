"""Charts and the heat map that monitors, endpoints and the overview share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from mainspring.console import words
from mainspring.console.charts import Chart, Marker, Point, Series
from mainspring.console.views.links import link_of_event, to
from mainspring.lineage import Event
from mainspring.monitoring import Estimate, MeasuredWindow, VariantPerformance

LOOP, NEVER = "as served", "never retrained"
BASELINE = "baseline"
"""Name of the variant that shadows every request and never changes."""
MARKED = {
    "trigger.fired": ("↻", "retraining started", 0),
    "gate.refused": ("⊘", "candidate refused", 1),
    "rollout.promoted": ("✓", "promoted", 1),
    "rollout.rolled_back": ("↩", "rolled back", 1),
}
"""Events that are drawn on charts: glyph, words, and row of the glyph."""
NEWEST_LINES = 7
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Lower ends of the heat map's colours; .1 and .2 are PSI's customary marks for moved and far moved."""


class HeatCell(msgspec.Struct, frozen=True, kw_only=True):
    """One value and its colour, 0 to 5; without a value there is none."""

    value: float | None
    level: int | None


class HeatRow(msgspec.Struct, frozen=True, kw_only=True):
    """One feature over the windows."""

    name: str
    cells: list[HeatCell]


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring columns of one month."""

    name: str
    columns: int


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """Features by windows."""

    months: list[Month]
    windows: list[str]
    """Start dates, one per column."""
    links: list[str]
    rows: list[HeatRow]
    levels: list[float]


def loss_chart(windows: Sequence[MeasuredWindow], events: Iterable[Event]) -> Chart:
    """Draw the log loss of the answers clients got beside that of the model that was never retrained."""
    served = [_point(window, performance.log_loss) for window in windows if (performance := window.report.served)]
    baseline = [
        _point(window, variant.performance.log_loss)
        for window in windows
        for variant in window.report.variants
        if variant.variant == BASELINE and variant.performance
    ]
    return Chart(
        title="Log loss per window",
        y_label="log loss per window (lower is better; band = 2 standard errors)",
        series=[Series(name=LOOP, points=served), Series(name=NEVER, points=baseline)],
        markers=mark_events(events),
    )


def variant_chart(windows: Sequence[MeasuredWindow]) -> Chart:
    """Draw the log loss of every version under its variant's name."""
    lines: dict[str, list[Point]] = {}
    for window in windows:
        for variant in window.report.variants:
            if variant.performance:
                lines.setdefault(name_of(variant), []).append(_point(window, variant.performance.log_loss))
    series = [Series(name=name, points=points) for name, points in lines.items()]
    fixed = [line for line in series if line.name.startswith(f"{BASELINE}@")][-1:]
    newest = [line for line in series if not line.name.startswith(f"{BASELINE}@")][-NEWEST_LINES:]
    return Chart(title=f"Log loss of the baseline and the newest {NEWEST_LINES} versions", series=fixed + newest)


def coverage_chart(windows: Sequence[MeasuredWindow]) -> Chart:
    """Draw the share of answered rows that have a label."""
    points = [Point(x=window.start_ms, y=window.report.labels.coverage, n=window.rows) for window in windows]
    return Chart(title="Label coverage", series=[Series(name="labelled share", points=points)], height=140)


def drift_map(monitor: str, windows: Sequence[MeasuredWindow]) -> HeatMap:
    """Arrange the PSI of every feature in every window, the most moved feature first."""
    values: dict[str, list[float | None]] = {}
    for index, window in enumerate(windows):
        for drift in window.report.drift.columns if window.report.drift else []:
            values.setdefault(drift.column, [None] * len(windows))[index] = drift.psi
    ranked = sorted(values.items(), key=lambda row: -max((value or 0.0 for value in row[1]), default=0.0))
    return HeatMap(
        months=[
            Month(name=name, columns=len(list(group)))
            for name, group in groupby(words.day(window.start_ms)[:7] for window in windows)
        ],
        windows=[words.day(window.start_ms) for window in windows],
        links=[to("monitors", monitor, window.id) for window in windows],
        rows=[HeatRow(name=name, cells=[_cell(value) for value in row]) for name, row in ranked],
        levels=list(LEVELS),
    )


def mark_events(events: Iterable[Event]) -> list[Marker]:
    """Turn the events that change what is served into markers, oldest first."""
    return [
        Marker(
            x=event.time,
            glyph=MARKED[event.type][0],
            tone=words.tone_of_event(event.type),
            label=f"{words.day(event.time)} {MARKED[event.type][1]}: {event.data.get('reason') or event.subject}",
            href=link_of_event(event) or f"/events?cause={event.id}",
            row=MARKED[event.type][2],
        )
        for event in events
        if event.type in MARKED
    ]


def name_of(variant: VariantPerformance) -> str:
    """Return the name of a version under a variant, as signals name it."""
    return f"{variant.variant}@{variant.version}"


def _point(window: MeasuredWindow, estimate: Estimate) -> Point:
    return Point(x=window.start_ms, y=estimate.value, n=estimate.n, error=estimate.standard_error)


def _cell(value: float | None) -> HeatCell:
    level = None if value is None else sum(value >= limit for limit in LEVELS)
    return HeatCell(value=value, level=level)
