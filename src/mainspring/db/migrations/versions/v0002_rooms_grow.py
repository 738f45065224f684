"""Rooms grow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mainspring.db.migrations.moves import move_rows

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Bring the tables of 0001 to 0002."""
    op.create_table(
        "kfp_experiment",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("storage_state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kfp_experiment")),
        sa.UniqueConstraint("name", name=op.f("uq_kfp_experiment_name")),
    )
    op.create_table(
        "kfp_pipeline",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kfp_pipeline")),
        sa.UniqueConstraint("name", name=op.f("uq_kfp_pipeline_name")),
    )
    op.create_table(
        "metric_name",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_name")),
        sa.UniqueConstraint("name", name=op.f("uq_metric_name_name")),
    )
    op.create_table(
        "pipeline_worker",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=256), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("lock", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_worker")),
    )
    op.create_table(
        "schedule",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("pipeline", sa.String(length=256), nullable=False),
        sa.Column("timing", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("ir_digest", sa.String(length=80), server_default="", nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("last_due", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
    )
    with op.batch_alter_table("schedule", schema=None) as batch_op:
        batch_op.create_index("ix_schedule_state", ["state"], unique=False)

    op.create_table(
        "webhook",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
    )
    op.create_table(
        "kfp_pipeline_version",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pipeline_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("ir_digest", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["kfp_pipeline.id"],
            name=op.f("fk_kfp_pipeline_version_pipeline_id_kfp_pipeline"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kfp_pipeline_version")),
        sa.UniqueConstraint("pipeline_id", "name", name="uq_kfp_pipeline_version_name"),
    )
    op.create_table(
        "kfp_run",
        sa.Column("run_id", sa.String(length=26), nullable=False),
        sa.Column("experiment_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("pipeline_id", sa.String(length=36), nullable=False),
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("schedule_id", sa.String(length=64), nullable=False),
        sa.Column("service_account", sa.String(length=256), nullable=False),
        sa.Column("pipeline_root", sa.Text(), nullable=False),
        sa.Column("storage_state", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["pipeline_run.id"], name=op.f("fk_kfp_run_run_id_pipeline_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_kfp_run")),
    )
    with op.batch_alter_table("kfp_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_kfp_run_experiment_id"), ["experiment_id"], unique=False)

    op.create_table(
        "pipeline_offer",
        sa.Column("run_id", sa.String(length=26), nullable=False),
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("task", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["pipeline_run.id"], name=op.f("fk_pipeline_offer_run_id_pipeline_run")),
        sa.PrimaryKeyConstraint("run_id", "address", name=op.f("pk_pipeline_offer")),
    )
    op.create_table(
        "schedule_run",
        sa.Column("schedule_id", sa.String(length=64), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=26), nullable=False),
        sa.Column("run_id", sa.String(length=26), nullable=True),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_run_schedule_id_schedule"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("schedule_id", "due_at", name=op.f("pk_schedule_run")),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("webhook_id", sa.String(length=36), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhook.id"], name=op.f("fk_webhook_delivery_webhook_id_webhook"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
    )
    with op.batch_alter_table("webhook_delivery", schema=None) as batch_op:
        batch_op.create_index("ix_webhook_delivery_due_at", ["due_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_webhook_delivery_webhook_id"), ["webhook_id"], unique=False)

    op.create_table(
        "metric_history",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("metric", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), autoincrement=False, nullable=False, comment="infinity stands for NaN"),
        sa.ForeignKeyConstraint(["metric"], ["metric_name.id"], name=op.f("fk_metric_history_metric_metric_name")),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_metric_history_run_run")),
        sa.PrimaryKeyConstraint("run", "metric", "timestamp", "step", "value", name=op.f("pk_metric_history")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_latest",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("metric", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["metric"], ["metric_name.id"], name=op.f("fk_metric_latest_metric_metric_name")),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_metric_latest_run_run")),
        sa.PrimaryKeyConstraint("run", "metric", name=op.f("pk_metric_latest")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("metric_latest", schema=None) as batch_op:
        batch_op.create_index("ix_metric_latest_metric_is_nan_value", ["metric", "is_nan", "value"], unique=False)

    move_rows(op.get_bind(), "latest_metric")
    op.drop_table("latest_metric")
    move_rows(op.get_bind(), "metric_point")
    op.drop_table("metric_point")
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("stage", sa.String(length=16), server_default="None", nullable=False))
        batch_op.add_column(sa.Column("warning", sa.Text(), server_default="", nullable=False))

    with op.batch_alter_table("pipeline_run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("artifacts", sa.JSON(), server_default="{}", nullable=False))
        batch_op.add_column(sa.Column("desired", sa.String(length=16), server_default="", nullable=False))
        batch_op.add_column(sa.Column("owner", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("token", sa.Integer(), server_default="0", nullable=False))

    with op.batch_alter_table("pipeline_task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=16), server_default="", nullable=False))
        batch_op.add_column(sa.Column("owner", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("cache", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("due_ms", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("max_rss_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("cpu_ms", sa.BigInteger(), nullable=True))
