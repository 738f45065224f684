"""Tables of the delivery room: rollouts, and the history of what was deployed."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

_ACTIVE = sa.text("state IN ('PENDING', 'CANARY')")

rollout = sa.Table(
    "rollout",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("endpoint", sa.String(128), nullable=False, index=True),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("candidate_version", sa.String(32), nullable=False),
    sa.Column("champion_version", sa.String(32), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    time_column("started_at"),
    time_column("ended_at", nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    json_column("statistics"),
    sa.Column("cause", sa.String(26), nullable=True),
    sa.Column("event", sa.String(26), nullable=False),
    sa.Index("uq_rollout_active_endpoint", "endpoint", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
)

deployment = sa.Table(
    "deployment",
    metadata,
    sa.Column("endpoint", sa.String(128), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    json_column("document"),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("cause", sa.String(26), nullable=True),
    sa.Column("event", sa.String(26), nullable=False),
    time_column("created_at"),
)
