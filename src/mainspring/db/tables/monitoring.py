"""Tables of the monitoring room: measured windows and their signals."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

window = sa.Table(
    "monitor_window",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("monitor", sa.String(128), nullable=False),
    sa.Column("endpoint", sa.String(128), nullable=False),
    time_column("start_ms"),
    time_column("end_ms"),
    sa.Column("measurement", sa.Integer, nullable=False),
    time_column("measured_at"),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("labelled", sa.BigInteger, nullable=False),
    json_column("report"),
    sa.Column("event", sa.String(26), nullable=False),
    sa.UniqueConstraint("monitor", "end_ms", "measurement"),
)

signal = sa.Table(
    "monitor_signal",
    metadata,
    sa.Column("window_id", sa.ForeignKey("monitor_window.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(256), nullable=False),
    sa.Column("value", sa.Float(53), nullable=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("threshold", sa.Float(53), nullable=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Index("ix_monitor_signal_name_subject", "name", "subject"),
)
