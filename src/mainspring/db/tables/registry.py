"""Tables of the registry room."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

registered_model = sa.Table(
    "registered_model",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("name", sa.String(256), nullable=False, unique=True),
    sa.Column("description", sa.Text, nullable=False),
    time_column("created_at"),
    time_column("updated_at"),
    sa.Column("last_version", sa.Integer, nullable=False),
)

registered_model_tag = sa.Table(
    "registered_model_tag",
    metadata,
    sa.Column("model_id", sa.ForeignKey("registered_model.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

model_version = sa.Table(
    "model_version",
    metadata,
    sa.Column("model_id", sa.ForeignKey("registered_model.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("run_id", sa.String(32), nullable=False, index=True),
    sa.Column("logged_model_id", sa.String(34), nullable=False),
    sa.Column("run_link", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("user", sa.String(256), nullable=False),
    json_column("signature"),
    sa.Column("pipeline_run_id", sa.String(64), nullable=False),
    sa.Column("execution_id", sa.String(64), nullable=False),
    sa.Column("event", sa.String(26), nullable=False),
    sa.Column("stage", sa.String(16), nullable=False, server_default="None"),
    sa.Column("warning", sa.Text, nullable=False, server_default=""),
    time_column("created_at"),
    time_column("updated_at"),
)

model_version_tag = sa.Table(
    "model_version_tag",
    metadata,
    sa.Column("model_id", sa.String(26), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["model_id", "version"], ["model_version.model_id", "model_version.version"]),
)

model_alias = sa.Table(
    "model_alias",
    metadata,
    sa.Column("model_id", sa.ForeignKey("registered_model.id"), primary_key=True),
    sa.Column("alias", sa.String(255), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)

alias_move = sa.Table(
    "alias_move",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("name", sa.String(256), nullable=False, index=True),
    sa.Column("alias", sa.String(255), nullable=False),
    sa.Column("from_version", sa.String(16), nullable=True),
    sa.Column("to_version", sa.String(16), nullable=True),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("cause", sa.String(26), nullable=True),
    sa.Column("event", sa.String(26), nullable=False),
    time_column("moved_at"),
)
