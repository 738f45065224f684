"""ML Metadata's four nouns, and the journal of events."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

artifact = sa.Table(
    "artifact",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("name", sa.String(512), nullable=False),
    sa.Column("digest", sa.String(80), nullable=True, index=True),
    sa.Column("uri", sa.Text, nullable=False),
    time_column("created_at"),
    json_column("properties"),
    sa.Index("ix_artifact_type_name", "type", "name"),
)

execution = sa.Table(
    "execution",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("name", sa.String(512), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("actor", sa.String(256), nullable=False),
    time_column("started_at"),
    time_column("ended_at", nullable=True),
    json_column("properties"),
    sa.Index("ix_execution_type_name", "type", "name"),
)

execution_event = sa.Table(
    "execution_event",
    metadata,
    sa.Column("execution_id", sa.ForeignKey("execution.id"), primary_key=True),
    sa.Column("artifact_id", sa.ForeignKey("artifact.id"), primary_key=True, index=True),
    sa.Column("kind", sa.String(6), primary_key=True),
    sa.Column("path", sa.String(256), primary_key=True),
)

context = sa.Table(
    "context",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("name", sa.String(512), nullable=False),
    time_column("created_at"),
    json_column("properties"),
    sa.UniqueConstraint("type", "name"),
)

context_execution = sa.Table(
    "context_execution",
    metadata,
    sa.Column("context_id", sa.ForeignKey("context.id"), primary_key=True),
    sa.Column("execution_id", sa.ForeignKey("execution.id"), primary_key=True, index=True),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(26), nullable=False, unique=True),
    sa.Column("type", sa.String(128), nullable=False, index=True),
    sa.Column("source", sa.String(256), nullable=False),
    sa.Column("subject", sa.String(512), nullable=False, index=True),
    sa.Column("cause", sa.String(26), nullable=True, index=True),
    time_column("time"),
    json_column("data"),
)
