"""Tables of what Kubeflow Pipelines' API names beside runs: experiments, pipelines and their versions."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import metadata, time_column

kfp_experiment = sa.Table(
    "kfp_experiment",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(256), nullable=False, unique=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("storage_state", sa.String(16), nullable=False),
    time_column("created_at"),
)

kfp_pipeline = sa.Table(
    "kfp_pipeline",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(256), nullable=False, unique=True),
    sa.Column("description", sa.Text, nullable=False),
    time_column("created_at"),
)

kfp_pipeline_version = sa.Table(
    "kfp_pipeline_version",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("pipeline_id", sa.ForeignKey("kfp_pipeline.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("ir_digest", sa.String(80), nullable=False),
    time_column("created_at"),
    sa.UniqueConstraint("pipeline_id", "name", name="uq_kfp_pipeline_version_name"),
)

kfp_run = sa.Table(
    "kfp_run",
    metadata,
    sa.Column("run_id", sa.ForeignKey("pipeline_run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("experiment_id", sa.String(36), nullable=False, index=True),
    sa.Column("name", sa.String(512), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("pipeline_id", sa.String(36), nullable=False),
    sa.Column("version_id", sa.String(36), nullable=False),
    sa.Column("schedule_id", sa.String(64), nullable=False),
    sa.Column("service_account", sa.String(256), nullable=False),
    sa.Column("pipeline_root", sa.Text, nullable=False),
    sa.Column("storage_state", sa.String(16), nullable=False),
)
