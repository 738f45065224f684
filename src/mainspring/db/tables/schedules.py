"""Tables of schedules: each, and every time it was due that was dealt with."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

schedule = sa.Table(
    "schedule",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("pipeline", sa.String(256), nullable=False),
    json_column("timing"),
    json_column("parameters"),
    sa.Column("ir_digest", sa.String(80), nullable=False, server_default=""),
    json_column("details"),
    sa.Column("state", sa.String(16), nullable=False),
    time_column("last_due"),
    time_column("created_at"),
    time_column("updated_at"),
    sa.Index("ix_schedule_state", "state"),
)

schedule_run = sa.Table(
    "schedule_run",
    metadata,
    sa.Column("schedule_id", sa.ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("due_at", sa.BigInteger, primary_key=True),
    sa.Column("event", sa.String(26), nullable=False),
    sa.Column("run_id", sa.String(26), nullable=True),
)
