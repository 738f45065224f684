"""Measure the monitor windows that are due, against the data the answering version was trained on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from mainspring.core import to_ms
from mainspring.core.project import MonitorConfig, parse_duration
from mainspring.datasets import Profile, Schema
from mainspring.lineage import Store, record_event
from mainspring.monitoring import (
    MeasuredWindow,
    Signal,
    Window,
    due_windows,
    last_window_end,
    measure_tables,
    read_signals,
    save_report,
)
from mainspring.registry import ModelVersion, list_versions
from mainspring.serving import first_record_at, read_labels, read_tables
from mainspring.tracking import read_run_artifact

_ANSWER_COLUMNS = ("version", "rows", "shadow", "status")
HOLDOUT_TAG = "holdout_log_loss"


def measure_due_windows(store: Store, name: str) -> Iterator[MeasuredWindow]:
    """Measure, one by one, every window of a monitor that is over and has waited for its labels."""
    config = store.project.monitors[name]
    start = window_start(store, config)
    if start is None:
        return
    with store.database.read() as connection:
        last = last_window_end(connection, name)
    for window in due_windows(
        start_ms=start,
        window_ms=parse_duration(config.window),
        last_end_ms=last,
        now_ms=store.clock.now_ms(),
        delay_ms=parse_duration(config.label_delay),
    ):
        yield measure(store, name, config, window)


def window_start(store: Store, config: MonitorConfig) -> int | None:
    """Return when the first window starts: as configured, or on the day of the first record; None before that."""
    if config.start is not None:
        return to_ms(config.start)
    first = first_record_at(store.settings.endpoint_folder(config.endpoint) / "predictions")
    return None if first is None else first - first % 86_400_000


def measure(store: Store, name: str, config: MonitorConfig, window: Window) -> MeasuredWindow:
    """Measure one window, keep the report with its signals, and raise an alert for those that need attention."""
    folder = store.settings.endpoint_folder(config.endpoint)
    model = store.project.endpoints[config.endpoint].model
    log = folder / "predictions"
    with store.database.read() as connection:
        versions = list_versions(connection, model)
        expected = expected_losses(versions)
        answering = _most_answers(read_tables(log, window.start, window.end, columns=_ANSWER_COLUMNS), versions)
        profile, schema = _reference(store, connection, answering) if answering else (None, None)
    report = measure_tables(
        window,
        read_tables(log, window.start, window.end),
        read_labels(folder / "labels", start_ms=window.start),
        reference=profile,
        schema=schema,
        features=feature_names(answering) if answering else None,
    )
    signals = read_signals(report, min_label_coverage=config.min_label_coverage, expected_log_loss=expected)
    with store.database.write() as connection:
        measured = save_report(
            connection, store.clock, monitor=name, endpoint=config.endpoint, report=report, signals=signals
        )
        _raise_alert(store, connection, name, measured, signals)
    return measured


def expected_losses(versions: list[ModelVersion]) -> Mapping[str, float]:
    """Return the hold-out log loss each version was registered with."""
    losses = {version.version: _finite(version.tags.get(HOLDOUT_TAG, "")) for version in versions}
    return {version: loss for version, loss in losses.items() if loss is not None}


def _finite(text: str) -> float | None:
    """Read a tag anybody may have set: a finite number, or nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _most_answers(tables: Iterable[pa.Table], versions: Sequence[ModelVersion]) -> ModelVersion | None:
    """Return the version that answered most rows of a window."""
    rows: Counter[str] = Counter()
    for table in tables:
        answered = table.filter(pc.and_(pc.invert(table.column("shadow")), pc.equal(table.column("status"), 200)))
        sums = answered.group_by("version").aggregate([("rows", "sum")])
        for version, count in zip(sums["version"].to_pylist(), sums["rows_sum"].to_pylist(), strict=True):
            rows[version] += count
    known = {version.version: version for version in versions}
    return next((known[version] for version, _ in rows.most_common() if version in known), None)


def feature_names(version: ModelVersion) -> list[str] | None:
    """Return the inputs a version's signature names; None if it has no named ones."""
    names = [column["name"] for column in version.signature.get("inputs", []) if "name" in column]
    return names or None


def _reference(store: Store, connection: sa.Connection, version: ModelVersion) -> tuple[Profile | None, Schema | None]:
    """Read what a version's training data looked like, from the artifacts of its run; None for what is not there."""
    profile = read_run_artifact(connection, store.blobs, version.run_id, "data/profile")
    schema = read_run_artifact(connection, store.blobs, version.run_id, "data/schema")
    try:
        return (
            msgspec.json.decode(profile, type=Profile) if profile else None,
            msgspec.json.decode(schema, type=Schema) if schema else None,
        )
    except msgspec.MsgspecError:  # artifacts of these names that somebody else logged
        return None, None


def _raise_alert(
    store: Store, connection: sa.Connection, monitor: str, measured: MeasuredWindow, signals: list[Signal]
) -> None:
    serious = [signal for signal in signals if signal.state == "attention" and not signal.name.startswith("drift.")]
    if serious:
        record_event(
            connection,
            store.clock,
            "alert.raised",
            source="monitoring",
            subject=monitor,
            cause=measured.event,
            data={
                "reason": "; ".join(_say(signal, monitor) for signal in serious),
                "signals": [signal.name for signal in serious],
            },
        )


def _say(signal: Signal, monitor: str) -> str:
    value = "missing" if signal.value is None else f"{signal.value:.4g}"
    limit = "" if signal.threshold is None else f" (expected {signal.threshold:.4g})"
    return f"{signal.name} of {signal.subject or monitor} is {value}{limit}"
