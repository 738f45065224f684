"""Tables of the tracking room.

Runs have a small integer ``number`` beside their id: the rows of params, tags and metrics carry the number, and those
of metrics a number for the metric's name too. The latest value of a metric is kept apart from its history, so listing
runs never touches the history. A row of the history is its own key, in the order in which it is read: logging the same
value twice changes nothing, and there is no second copy in an index.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_PATH = sa.String(1000).with_variant(sa.String(1000, collation="C"), "postgresql")

experiment = sa.Table(
    "experiment",
    metadata,
    sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(500), nullable=False, unique=True),
    sa.Column("artifact_location", sa.Text, nullable=False),
    sa.Column("lifecycle_stage", sa.String(8), nullable=False),
    time_column("created_at"),
    time_column("updated_at"),
)

experiment_tag = sa.Table(
    "experiment_tag",
    metadata,
    sa.Column("experiment_id", sa.ForeignKey("experiment.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

run = sa.Table(
    "run",
    metadata,
    sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("experiment_id", sa.ForeignKey("experiment.id"), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("user", sa.String(256), nullable=False),
    sa.Column("status", sa.String(9), nullable=False),
    sa.Column("lifecycle_stage", sa.String(8), nullable=False),
    sa.Column("artifact_uri", sa.Text, nullable=False),
    time_column("start_time"),
    time_column("end_time", nullable=True),
    sa.Index("ix_run_experiment_id_start_time", "experiment_id", "start_time"),
)


def _run_column() -> sa.Column[Any]:
    return sa.Column("run", sa.ForeignKey("run.number"), primary_key=True)


param = sa.Table(
    "param",
    metadata,
    _run_column(),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

run_tag = sa.Table(
    "run_tag",
    metadata,
    _run_column(),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

metric_name = sa.Table(
    "metric_name",
    metadata,
    sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(250), nullable=False, unique=True),
)

metric_history = sa.Table(
    "metric_history",
    metadata,
    _run_column(),
    sa.Column("metric", sa.ForeignKey("metric_name.id"), primary_key=True),
    sa.Column("timestamp", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Double, primary_key=True, autoincrement=False, comment="infinity stands for NaN"),
    sqlite_with_rowid=False,
)

metric_latest = sa.Table(
    "metric_latest",
    metadata,
    _run_column(),
    sa.Column("metric", sa.ForeignKey("metric_name.id"), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("is_nan", sa.Boolean, nullable=False),
    sa.Index("ix_metric_latest_metric_is_nan_value", "metric", "is_nan", "value"),
    sqlite_with_rowid=False,
)

input_dataset = sa.Table(
    "input_dataset",
    metadata,
    sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("experiment_id", sa.ForeignKey("experiment.id"), nullable=False),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("digest", sa.String(36), nullable=False),
    sa.Column("source_type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("schema", sa.Text, nullable=True),
    sa.Column("profile", sa.Text, nullable=True),
    sa.UniqueConstraint("experiment_id", "name", "digest"),
)

run_dataset = sa.Table(
    "run_dataset",
    metadata,
    _run_column(),
    sa.Column("dataset_id", sa.ForeignKey("input_dataset.id"), primary_key=True),
    json_column("tags"),
)

run_model = sa.Table(
    "run_model",
    metadata,
    _run_column(),
    sa.Column("kind", sa.String(6), primary_key=True),
    sa.Column("model_id", sa.String(34), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
)

artifact_file = sa.Table(
    "artifact_file",
    metadata,
    sa.Column("path", _PATH, primary_key=True),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    time_column("updated_at"),
)

logged_model = sa.Table(
    "logged_model",
    metadata,
    sa.Column("id", sa.String(34), primary_key=True),
    sa.Column("experiment_id", sa.ForeignKey("experiment.id"), nullable=False, index=True),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("model_type", sa.String(250), nullable=False),
    sa.Column("source_run_id", sa.String(32), nullable=True, index=True),
    sa.Column("artifact_uri", sa.Text, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("lifecycle_stage", sa.String(8), nullable=False),
    time_column("created_at"),
    time_column("updated_at"),
)

logged_model_tag = sa.Table(
    "logged_model_tag",
    metadata,
    sa.Column("model_id", sa.ForeignKey("logged_model.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

logged_model_param = sa.Table(
    "logged_model_param",
    metadata,
    sa.Column("model_id", sa.ForeignKey("logged_model.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

logged_model_metric = sa.Table(
    "logged_model_metric",
    metadata,
    sa.Column("model_id", sa.ForeignKey("logged_model.id"), primary_key=True),
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("dataset_name", sa.String(500), primary_key=True),
    sa.Column("dataset_digest", sa.String(36), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("is_nan", sa.Boolean, nullable=False),
)
