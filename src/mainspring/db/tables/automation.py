"""Tables of the automation room: the queue of triggers."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

_ACTIVE = sa.text("state IN ('PENDING', 'RUNNING')")

trigger = sa.Table(
    "trigger",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("policy", sa.String(128), nullable=False),
    sa.Column("pipeline", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    json_column("evidence"),
    sa.Column("state", sa.String(8), nullable=False, index=True),
    sa.Column("run_id", sa.String(64), nullable=True),
    sa.Column("cause", sa.String(26), nullable=True),
    sa.Column("event", sa.String(26), nullable=False),
    time_column("created_at"),
    time_column("started_at", nullable=True),
    time_column("ended_at", nullable=True),
    sa.Index(
        "uq_trigger_active_pipeline",
        "pipeline",
        unique=True,
        sqlite_where=_ACTIVE,
        postgresql_where=_ACTIVE,
    ),
)
