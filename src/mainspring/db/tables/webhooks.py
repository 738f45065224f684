"""Tables of webhooks: who wants to hear of which events, and what still has to be sent."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

webhook = sa.Table(
    "webhook",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("description", sa.Text, nullable=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    json_column("events"),
    time_column("created_at"),
    time_column("updated_at"),
)

webhook_delivery = sa.Table(
    "webhook_delivery",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("webhook_id", sa.ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("event", sa.String(64), nullable=False),
    json_column("payload"),
    sa.Column("attempts", sa.Integer, nullable=False),
    time_column("due_at"),
    time_column("created_at"),
    sa.Index("ix_webhook_delivery_due_at", "due_at"),
)
