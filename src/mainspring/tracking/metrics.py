"""Metrics: a history that is only appended to, and the latest value of each apart from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from mainspring.db import Session, marks, session_of
from mainspring.tracking.checks import check_key

if TYPE_CHECKING:
    import sqlalchemy as sa

MAX_VALUE = 1.7976931348623157e308
_NAN = math.inf  # how a NaN lies in the history: no value there is infinite, and a key cannot be NULL
_APPEND = "INSERT INTO metric_history (run, metric, timestamp, step, value) VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING"
_REPLACE_LATEST = (
    "INSERT INTO metric_latest AS kept (run, metric, step, timestamp, value, is_nan) VALUES (?,?,?,?,?,?) "
    "ON CONFLICT (run, metric) DO UPDATE SET step = excluded.step, timestamp = excluded.timestamp, "
    "value = excluded.value, is_nan = excluded.is_nan WHERE (excluded.step, excluded.timestamp, excluded.value) "
    "> (kept.step, kept.timestamp, kept.value)"
)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One logged value; ``timestamp`` in ms since the epoch. Model and dataset say what it was measured of."""

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LatestMetric(msgspec.Struct, frozen=True, gc=False):
    """The latest value of a metric, as it is stored: a NaN has the value 0 and is marked."""

    step: int
    timestamp: int
    value: float
    is_nan: bool

    @property
    def rank(self) -> tuple[int, int, float]:
        """What decides between two values: the step, then the time stamp, then the value, where NaN counts as 0."""
        return self.step, self.timestamp, self.value


def log_metrics(connection: sa.Connection | Session, run: int, metrics: Sequence[Metric]) -> None:
    """Append to the history of a run (by number); logging the same value twice changes nothing.

    The latest value is the one with the highest step, then time stamp, then value.
    """
    if not metrics:
        return
    session = session_of(connection)
    latest = latest_of(metrics)
    for key in latest:
        check_key("metric", key)
    ids = metric_ids(session, latest)
    append_points(session, run, ids, metrics)
    write_latest(session, run, {ids[key]: found for key, found in latest.items()})


def append_points(session: Session, run: int, ids: Mapping[str, int], metrics: Iterable[Metric]) -> None:
    """Append values to the history, whose metrics' names have these numbers; those it has already change nothing."""
    rows = [(run, ids[m.key], m.timestamp, m.step, stored_value(m.value)) for m in metrics]
    session.run_many(_APPEND, rows)


def write_latest(session: Session, run: int, latest: Mapping[int, LatestMetric]) -> None:
    """Replace the latest values (by number of the metric's name) that these outrank."""
    rows = [(run, metric, m.step, m.timestamp, m.value, m.is_nan) for metric, m in sorted(latest.items())]
    session.run_many(_REPLACE_LATEST, rows)


def latest_of(metrics: Iterable[Metric]) -> dict[str, LatestMetric]:
    """Return the latest of these values, by key."""
    newest: dict[str, LatestMetric] = {}
    for metric in metrics:
        kept = newest.get(metric.key)
        if kept is None or metric.step >= kept.step:
            is_nan = math.isnan(metric.value)
            value = 0.0 if is_nan else clamp(metric.value)
            found = LatestMetric(metric.step, metric.timestamp, value, is_nan)
            if kept is None or found.rank > kept.rank:
                newest[metric.key] = found
    return newest


def metric_ids(session: Session, names: Iterable[str]) -> dict[str, int]:
    """Return the numbers of metrics' names; names never seen before get one."""
    known = session.metric_ids
    for name in sorted(name for name in names if name not in known):
        row = session.row("SELECT id FROM metric_name WHERE name = ?", (name,))
        if row is None:
            session.run("INSERT INTO metric_name (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            row = session.row("SELECT id FROM metric_name WHERE name = ?", (name,))
        if row is not None:
            known[name] = row[0]
    return known


def metric_names(session: Session, ids: Iterable[int]) -> dict[int, str]:
    """Return the names of metrics by their numbers."""
    wanted = sorted(set(ids))
    names: dict[int, str] = {}
    for start in range(0, len(wanted), 1000):
        part = wanted[start : start + 1000]
        names.update(session.rows(f"SELECT id, name FROM metric_name WHERE id IN ({marks(part)})", part))  # noqa: S608 - only marks
    return names


def latest_metrics(connection: sa.Connection | Session, runs: Sequence[int]) -> dict[int, list[Metric]]:
    """Return the latest value of every metric of the runs, by run number, in the order of their keys."""
    session = session_of(connection)
    found: dict[int, list[Metric]] = {run: [] for run in runs}
    statement = (
        "SELECT l.run, n.name, l.value, l.timestamp, l.step, l.is_nan FROM metric_latest AS l "  # noqa: S608 - marks only
        f"JOIN metric_name AS n ON n.id = l.metric WHERE l.run IN ({marks(runs)}) ORDER BY l.run, n.name"
    )
    for run, name, value, timestamp, step, is_nan in session.rows(statement, runs):
        found[run].append(Metric(key=name, value=math.nan if is_nan else value, timestamp=timestamp, step=step))
    return found


def metric_history(
    connection: sa.Connection | Session, run: int, key: str, *, limit: int | None = None, offset: int = 0
) -> list[Metric]:
    """Return the history of one metric in the order of time stamps, then steps."""
    return [
        Metric(key=key, value=read_value(value), timestamp=timestamp, step=step)
        for timestamp, step, value in history_rows(session_of(connection), run, key, limit=limit, offset=offset)
    ]


def history_rows(
    session: Session, run: int, key: str, *, limit: int | None = None, offset: int = 0
) -> list[tuple[int, int, float]]:
    """Return time stamp, step and stored value (see `read_value`) of a metric, in the order of time stamps."""
    statement = (
        "SELECT timestamp, step, value FROM metric_history "
        "WHERE run = ? AND metric = (SELECT id FROM metric_name WHERE name = ?) "
        "ORDER BY timestamp, step, value LIMIT ? OFFSET ?"
    )
    rows: list[tuple[int, int, float]] = session.rows(statement, (run, key, 2**62 if limit is None else limit, offset))
    return rows


def clamp(value: float) -> float:
    """Return the value as it is stored: infinities become the largest finite number, and there is one zero."""
    return math.copysign(MAX_VALUE, value) if math.isinf(value) else value + 0.0


def stored_value(value: float) -> float:
    """Return a value as the history keeps it."""
    return _NAN if math.isnan(value) else clamp(value)


def read_value(stored: float) -> float:
    """Return the value that the history keeps so."""
    return math.nan if stored == _NAN else stored
