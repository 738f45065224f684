"""Metrics of logged models: the latest value by model, run, key and dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mainspring.core import NotFound
from mainspring.db import Session, session_of
from mainspring.tracking.metrics import Metric, latest_of

if TYPE_CHECKING:
    import sqlalchemy as sa

_KEYS = "model_id, run_id, key, dataset_name, dataset_digest"
_REPLACE = (
    f"INSERT INTO logged_model_metric AS kept ({_KEYS}, step, timestamp, value, is_nan) "  # noqa: S608 - our own names
    f"VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT ({_KEYS}) DO UPDATE SET step = excluded.step, "
    "timestamp = excluded.timestamp, value = excluded.value, is_nan = excluded.is_nan "
    "WHERE (excluded.step, excluded.timestamp, excluded.value) > (kept.step, kept.timestamp, kept.value)"
)


def log_model_metrics(connection: sa.Connection | Session, run_id: str, metrics: Sequence[Metric]) -> None:
    """Keep the latest value of those metrics that name a logged model; raise `NotFound` if there is no such model."""
    session = session_of(connection)
    of_models = [metric for metric in metrics if metric.model_id]
    for id in sorted({metric.model_id for metric in of_models}):
        check_model(session, id)
    rows = []
    for metric in of_models:
        found = latest_of([metric])[metric.key]
        key = (metric.model_id, run_id, metric.key, metric.dataset_name, metric.dataset_digest)
        rows.append((*key, found.step, found.timestamp, found.value, found.is_nan))
    session.run_many(_REPLACE, rows)


def check_model(session: Session, id: str) -> None:
    """Raise `NotFound` if there is no logged model of that id."""
    row = session.row("SELECT lifecycle_stage FROM logged_model WHERE id = ?", (id,)) if "\0" not in id else None
    if row is None or row[0] == "deleted":
        raise NotFound(f"Logged model with ID '{id[:100]}' not found.")
