"""Metrics: a history that is only appended to, and the latest value of each apart from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.db.tables import tracking as tables
from mainspring.tracking.checks import check_key
from mainspring.tracking.upserts import upsert

MAX_VALUE = 1.7976931348623157e308
_POINT_KEYS = ("run", "key", "timestamp", "step", "value", "is_nan")
_ORDER = ("step", "timestamp", "value")
_LATEST = (*_ORDER, "is_nan")


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One logged value; ``timestamp`` in ms since the epoch. Model and dataset say what it was measured of."""

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


def log_metrics(connection: sa.Connection, run: int, metrics: Sequence[Metric]) -> None:
    """Append to the history of a run (by number); logging the same value twice changes nothing.

    The latest value is the one with the highest step, then time stamp, then value.
    """
    if not metrics:
        return
    for key in {metric.key for metric in metrics}:
        check_key("metric", key)
    rows = [_row(run, metric) for metric in metrics]
    upsert(connection, tables.metric_point, rows, keys=_POINT_KEYS, update=())
    upsert(connection, tables.latest_metric, _latest_of(rows), keys=("run", "key"), update=_LATEST, newer=_ORDER)


def latest_metrics(connection: sa.Connection, runs: Sequence[int]) -> dict[int, list[Metric]]:
    """Return the latest value of every metric of the runs, by run number."""
    table = tables.latest_metric
    found: dict[int, list[Metric]] = {run: [] for run in runs}
    for row in connection.execute(sa.select(table).where(table.c.run.in_(runs)).order_by(table.c.run, table.c.key)):
        found[row.run].append(_metric(row))
    return found


def metric_history(
    connection: sa.Connection, run: int, key: str, *, limit: int | None = None, offset: int = 0
) -> list[Metric]:
    """Return the history of one metric in the order of time stamps, then steps."""
    table = tables.metric_point
    order = (table.c.timestamp, table.c.step, table.c.value)
    query = sa.select(table).where(table.c.run == run, table.c.key == key).order_by(*order)
    return [_metric(row) for row in connection.execute(query.limit(limit).offset(offset))]


def clamp(value: float) -> float:
    """Return the value as it is stored: infinities become the largest finite number."""
    return math.copysign(MAX_VALUE, value) if math.isinf(value) else value


def _row(run: int, metric: Metric) -> dict[str, Any]:
    is_nan = math.isnan(metric.value)
    return {
        "run": run, "key": metric.key, "timestamp": metric.timestamp, "step": metric.step,
        "value": 0.0 if is_nan else clamp(metric.value), "is_nan": is_nan,
    }  # fmt: skip


def _latest_of(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest row per key, in the order of keys so that concurrent writers lock in the same order."""
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        kept = newest.get(row["key"])
        if kept is None or _rank(row) > _rank(kept):
            newest[row["key"]] = row
    return [newest[key] for key in sorted(newest)]


def _rank(row: dict[str, Any]) -> tuple[int, int, float]:
    return row["step"], row["timestamp"], row["value"]


def _metric(row: sa.Row[Any]) -> Metric:
    value = math.nan if row.is_nan else row.value
    return Metric(key=row.key, value=value, timestamp=row.timestamp, step=row.step)
