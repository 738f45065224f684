"""Tables of the pipelines room: runs, one row per task of a run, and the engines that work on them.

The times of leases (``pipeline_worker``) are real ones, whatever clock the project lives by: a simulated clock that
stands still or leaps would keep dead engines alive or kill living ones.
"""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import json_column, metadata, time_column

pipeline_run = sa.Table(
    "pipeline_run",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("pipeline", sa.String(256), nullable=False, index=True),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("cause", sa.String(26), nullable=True),
    sa.Column("ir_digest", sa.String(80), nullable=False),
    sa.Column("use_cache", sa.Boolean, nullable=False),
    sa.Column("execution_id", sa.String(26), nullable=True),
    sa.Column("started_event", sa.String(26), nullable=True),
    sa.Column("error", sa.Text, nullable=False, default=""),
    time_column("created_at"),
    time_column("started_at", nullable=True),
    time_column("ended_at", nullable=True),
    sa.Column("took_ms", sa.BigInteger, nullable=True),
    json_column("parameters"),
    json_column("code"),
    json_column("outputs"),
    json_column("warnings"),
    sa.Column("artifacts", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("desired", sa.String(16), nullable=False, server_default=""),
    sa.Column("owner", sa.String(64), nullable=False, server_default=""),
    sa.Column("token", sa.Integer, nullable=False, server_default="0"),
)

pipeline_task = sa.Table(
    "pipeline_task",
    metadata,
    sa.Column("run_id", sa.ForeignKey("pipeline_run.id"), primary_key=True),
    sa.Column("address", sa.String(512), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("execution_id", sa.String(26), nullable=True, index=True),
    sa.Column("cached_from", sa.String(26), nullable=True),
    sa.Column("cache_key", sa.String(80), nullable=True, index=True),
    sa.Column("component_digest", sa.String(80), nullable=False),
    sa.Column("error", sa.Text, nullable=False, default=""),
    time_column("started_at", nullable=True),
    time_column("ended_at", nullable=True),
    sa.Column("took_ms", sa.BigInteger, nullable=True),
    json_column("upstream"),
    json_column("inputs"),
    json_column("outputs"),
    sa.Column("kind", sa.String(16), nullable=False, server_default=""),
    sa.Column("owner", sa.String(64), nullable=False, server_default=""),
    sa.Column("cache", sa.Text, nullable=False, server_default=""),
    sa.Column("due_ms", sa.BigInteger, nullable=True),
    sa.Column("max_rss_bytes", sa.BigInteger, nullable=True),
    sa.Column("cpu_ms", sa.BigInteger, nullable=True),
)

pipeline_offer = sa.Table(
    "pipeline_offer",
    metadata,
    sa.Column("run_id", sa.ForeignKey("pipeline_run.id"), primary_key=True),
    sa.Column("address", sa.String(512), primary_key=True),
    json_column("task"),
)

pipeline_worker = sa.Table(
    "pipeline_worker",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("host", sa.String(256), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("lock", sa.Text, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    time_column("expires_at"),
)
