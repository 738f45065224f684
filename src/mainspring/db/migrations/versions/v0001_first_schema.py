"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "alias_move",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("alias", sa.String(length=255), nullable=False),
        sa.Column("from_version", sa.String(length=16), nullable=True),
        sa.Column("to_version", sa.String(length=16), nullable=True),
        sa.Column("actor", sa.String(length=256), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cause", sa.String(length=26), nullable=True),
        sa.Column("event", sa.String(length=26), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_move")),
    )
    op.create_index(op.f("ix_alias_move_name"), "alias_move", ["name"], unique=False)
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=True),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
    )
    op.create_index(op.f("ix_artifact_digest"), "artifact", ["digest"], unique=False)
    op.create_index("ix_artifact_type_name", "artifact", ["type", "name"], unique=False)
    op.create_table(
        "artifact_file",
        sa.Column(
            "path",
            sa.String(length=1000).with_variant(sa.String(length=1000, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_artifact_file")),
    )
    op.create_index(op.f("ix_artifact_file_digest"), "artifact_file", ["digest"], unique=False)
    op.create_table(
        "context",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_context")),
        sa.UniqueConstraint("type", "name", name=op.f("uq_context_type_name")),
    )
    op.create_table(
        "deployment",
        sa.Column("endpoint", sa.String(length=128), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cause", sa.String(length=26), nullable=True),
        sa.Column("event", sa.String(length=26), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "revision", name=op.f("pk_deployment")),
    )
    op.create_table(
        "event",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=256), nullable=False),
        sa.Column("subject", sa.String(length=512), nullable=False),
        sa.Column("cause", sa.String(length=26), nullable=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_event")),
        sa.UniqueConstraint("id", name=op.f("uq_event_id")),
    )
    op.create_index(op.f("ix_event_cause"), "event", ["cause"], unique=False)
    op.create_index(op.f("ix_event_subject"), "event", ["subject"], unique=False)
    op.create_index(op.f("ix_event_type"), "event", ["type"], unique=False)
    op.create_table(
        "execution",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution")),
    )
    op.create_index("ix_execution_type_name", "execution", ["type", "name"], unique=False)
    op.create_table(
        "experiment",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("artifact_location", sa.Text(), nullable=False),
        sa.Column("lifecycle_stage", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiment")),
        sa.UniqueConstraint("name", name=op.f("uq_experiment_name")),
    )
    op.create_table(
        "monitor_window",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("monitor", sa.String(length=128), nullable=False),
        sa.Column("endpoint", sa.String(length=128), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("measurement", sa.Integer(), nullable=False),
        sa.Column("measured_at", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("labelled", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("event", sa.String(length=26), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_window")),
        sa.UniqueConstraint(
            "monitor", "end_ms", "measurement", name=op.f("uq_monitor_window_monitor_end_ms_measurement")
        ),
    )
    op.create_table(
        "pipeline_run",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("pipeline", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=False),
        sa.Column("cause", sa.String(length=26), nullable=True),
        sa.Column("ir_digest", sa.String(length=80), nullable=False),
        sa.Column("use_cache", sa.Boolean(), nullable=False),
        sa.Column("execution_id", sa.String(length=26), nullable=True),
        sa.Column("started_event", sa.String(length=26), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("took_ms", sa.BigInteger(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("code", sa.JSON(), nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_run")),
    )
    op.create_index(op.f("ix_pipeline_run_pipeline"), "pipeline_run", ["pipeline"], unique=False)
    op.create_index(op.f("ix_pipeline_run_state"), "pipeline_run", ["state"], unique=False)
    op.create_table(
        "registered_model",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registered_model")),
        sa.UniqueConstraint("name", name=op.f("uq_registered_model_name")),
    )
    op.create_table(
        "rollout",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("endpoint", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("candidate_version", sa.String(length=32), nullable=False),
        sa.Column("champion_version", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("statistics", sa.JSON(), nullable=False),
        sa.Column("cause", sa.String(length=26), nullable=True),
        sa.Column("event", sa.String(length=26), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout")),
    )
    op.create_index(op.f("ix_rollout_endpoint"), "rollout", ["endpoint"], unique=False)
    op.create_index(
        "uq_rollout_active_endpoint",
        "rollout",
        ["endpoint"],
        unique=True,
        sqlite_where=sa.text("state IN ('PENDING', 'CANARY')"),
        postgresql_where=sa.text("state IN ('PENDING', 'CANARY')"),
    )
    op.create_table(
        "trigger",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("policy", sa.String(length=128), nullable=False),
        sa.Column("pipeline", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("cause", sa.String(length=26), nullable=True),
        sa.Column("event", sa.String(length=26), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger")),
    )
    op.create_index(op.f("ix_trigger_state"), "trigger", ["state"], unique=False)
    op.create_index(
        "uq_trigger_active_pipeline",
        "trigger",
        ["pipeline"],
        unique=True,
        sqlite_where=sa.text("state IN ('PENDING', 'RUNNING')"),
        postgresql_where=sa.text("state IN ('PENDING', 'RUNNING')"),
    )
    op.create_table(
        "context_execution",
        sa.Column("context_id", sa.String(length=26), nullable=False),
        sa.Column("execution_id", sa.String(length=26), nullable=False),
        sa.ForeignKeyConstraint(["context_id"], ["context.id"], name=op.f("fk_context_execution_context_id_context")),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["execution.id"], name=op.f("fk_context_execution_execution_id_execution")
        ),
        sa.PrimaryKeyConstraint("context_id", "execution_id", name=op.f("pk_context_execution")),
    )
    op.create_index(op.f("ix_context_execution_execution_id"), "context_execution", ["execution_id"], unique=False)
    op.create_table(
        "dataset_snapshot",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("dataset", sa.String(length=128), nullable=False),
        sa.Column("parent", sa.String(length=80), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("time_from", sa.BigInteger(), nullable=True),
        sa.Column("time_to", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("artifact_id", sa.String(length=26), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact.id"], name=op.f("fk_dataset_snapshot_artifact_id_artifact")
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["dataset_snapshot.id"], name=op.f("fk_dataset_snapshot_parent_dataset_snapshot")
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_dataset_snapshot")),
        sa.UniqueConstraint("id", name=op.f("uq_dataset_snapshot_id")),
    )
    op.create_index(op.f("ix_dataset_snapshot_dataset"), "dataset_snapshot", ["dataset"], unique=False)
    op.create_table(
        "execution_event",
        sa.Column("execution_id", sa.String(length=26), nullable=False),
        sa.Column("artifact_id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=6), nullable=False),
        sa.Column("path", sa.String(length=256), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_execution_event_artifact_id_artifact")),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["execution.id"], name=op.f("fk_execution_event_execution_id_execution")
        ),
        sa.PrimaryKeyConstraint("execution_id", "artifact_id", "kind", "path", name=op.f("pk_execution_event")),
    )
    op.create_index(op.f("ix_execution_event_artifact_id"), "execution_event", ["artifact_id"], unique=False)
    op.create_table(
        "experiment_tag",
        sa.Column("experiment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name=op.f("fk_experiment_tag_experiment_id_experiment")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "key", name=op.f("pk_experiment_tag")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "input_dataset",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("experiment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("digest", sa.String(length=36), nullable=False),
        sa.Column("source_type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name=op.f("fk_input_dataset_experiment_id_experiment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_input_dataset")),
        sa.UniqueConstraint("experiment_id", "name", "digest", name=op.f("uq_input_dataset_experiment_id_name_digest")),
    )
    op.create_table(
        "logged_model",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("experiment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("model_type", sa.String(length=250), nullable=False),
        sa.Column("source_run_id", sa.String(length=32), nullable=True),
        sa.Column("artifact_uri", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("lifecycle_stage", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name=op.f("fk_logged_model_experiment_id_experiment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logged_model")),
    )
    op.create_index(op.f("ix_logged_model_experiment_id"), "logged_model", ["experiment_id"], unique=False)
    op.create_index(op.f("ix_logged_model_source_run_id"), "logged_model", ["source_run_id"], unique=False)
    op.create_table(
        "model_alias",
        sa.Column("model_id", sa.String(length=26), nullable=False),
        sa.Column("alias", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["registered_model.id"], name=op.f("fk_model_alias_model_id_registered_model")
        ),
        sa.PrimaryKeyConstraint("model_id", "alias", name=op.f("pk_model_alias")),
    )
    op.create_table(
        "model_version",
        sa.Column("model_id", sa.String(length=26), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("logged_model_id", sa.String(length=34), nullable=False),
        sa.Column("run_link", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("user", sa.String(length=256), nullable=False),
        sa.Column("signature", sa.JSON(), nullable=False),
        sa.Column("pipeline_run_id", sa.String(length=64), nullable=False),
        sa.Column("execution_id", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=26), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["registered_model.id"], name=op.f("fk_model_version_model_id_registered_model")
        ),
        sa.PrimaryKeyConstraint("model_id", "version", name=op.f("pk_model_version")),
    )
    op.create_index(op.f("ix_model_version_digest"), "model_version", ["digest"], unique=False)
    op.create_index(op.f("ix_model_version_run_id"), "model_version", ["run_id"], unique=False)
    op.create_table(
        "monitor_signal",
        sa.Column("window_id", sa.String(length=26), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=256), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("threshold", sa.Float(precision=53), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["window_id"], ["monitor_window.id"], name=op.f("fk_monitor_signal_window_id_monitor_window")
        ),
        sa.PrimaryKeyConstraint("window_id", "position", name=op.f("pk_monitor_signal")),
    )
    op.create_index("ix_monitor_signal_name_subject", "monitor_signal", ["name", "subject"], unique=False)
    op.create_table(
        "pipeline_task",
        sa.Column("run_id", sa.String(length=26), nullable=False),
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.String(length=26), nullable=True),
        sa.Column("cached_from", sa.String(length=26), nullable=True),
        sa.Column("cache_key", sa.String(length=80), nullable=True),
        sa.Column("component_digest", sa.String(length=80), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("took_ms", sa.BigInteger(), nullable=True),
        sa.Column("upstream", sa.JSON(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["pipeline_run.id"], name=op.f("fk_pipeline_task_run_id_pipeline_run")),
        sa.PrimaryKeyConstraint("run_id", "address", name=op.f("pk_pipeline_task")),
    )
    op.create_index(op.f("ix_pipeline_task_cache_key"), "pipeline_task", ["cache_key"], unique=False)
    op.create_index(op.f("ix_pipeline_task_execution_id"), "pipeline_task", ["execution_id"], unique=False)
    op.create_table(
        "registered_model_tag",
        sa.Column("model_id", sa.String(length=26), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["registered_model.id"], name=op.f("fk_registered_model_tag_model_id_registered_model")
        ),
        sa.PrimaryKeyConstraint("model_id", "key", name=op.f("pk_registered_model_tag")),
    )
    op.create_table(
        "run",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("experiment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("user", sa.String(length=256), nullable=False),
        sa.Column("status", sa.String(length=9), nullable=False),
        sa.Column("lifecycle_stage", sa.String(length=8), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=False),
        sa.Column("start_time", sa.BigInteger(), nullable=False),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiment.id"], name=op.f("fk_run_experiment_id_experiment")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_run")),
        sa.UniqueConstraint("id", name=op.f("uq_run_id")),
    )
    op.create_index("ix_run_experiment_id_start_time", "run", ["experiment_id", "start_time"], unique=False)
    op.create_table(
        "latest_metric",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_latest_metric_run_run")),
        sa.PrimaryKeyConstraint("run", "key", name=op.f("pk_latest_metric")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "logged_model_metric",
        sa.Column("model_id", sa.String(length=34), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("dataset_name", sa.String(length=500), nullable=False),
        sa.Column("dataset_digest", sa.String(length=36), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["logged_model.id"], name=op.f("fk_logged_model_metric_model_id_logged_model")
        ),
        sa.PrimaryKeyConstraint(
            "model_id", "run_id", "key", "dataset_name", "dataset_digest", name=op.f("pk_logged_model_metric")
        ),
    )
    op.create_table(
        "logged_model_param",
        sa.Column("model_id", sa.String(length=34), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["logged_model.id"], name=op.f("fk_logged_model_param_model_id_logged_model")
        ),
        sa.PrimaryKeyConstraint("model_id", "key", name=op.f("pk_logged_model_param")),
    )
    op.create_table(
        "logged_model_tag",
        sa.Column("model_id", sa.String(length=34), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["logged_model.id"], name=op.f("fk_logged_model_tag_model_id_logged_model")
        ),
        sa.PrimaryKeyConstraint("model_id", "key", name=op.f("pk_logged_model_tag")),
    )
    op.create_table(
        "metric_point",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), autoincrement=False, nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_metric_point_run_run")),
        sa.PrimaryKeyConstraint("run", "key", "timestamp", "step", "value", "is_nan", name=op.f("pk_metric_point")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "model_version_tag",
        sa.Column("model_id", sa.String(length=26), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["model_version.model_id", "model_version.version"],
            name=op.f("fk_model_version_tag_model_id_version_model_version"),
        ),
        sa.PrimaryKeyConstraint("model_id", "version", "key", name=op.f("pk_model_version_tag")),
    )
    op.create_table(
        "param",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_param_run_run")),
        sa.PrimaryKeyConstraint("run", "key", name=op.f("pk_param")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_dataset",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("dataset_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["input_dataset.id"], name=op.f("fk_run_dataset_dataset_id_input_dataset")
        ),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_run_dataset_run_run")),
        sa.PrimaryKeyConstraint("run", "dataset_id", name=op.f("pk_run_dataset")),
    )
    op.create_table(
        "run_model",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=6), nullable=False),
        sa.Column("model_id", sa.String(length=34), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_run_model_run_run")),
        sa.PrimaryKeyConstraint("run", "kind", "model_id", name=op.f("pk_run_model")),
    )
    op.create_table(
        "run_tag",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.number"], name=op.f("fk_run_tag_run_run")),
        sa.PrimaryKeyConstraint("run", "key", name=op.f("pk_run_tag")),
        sqlite_with_rowid=False,
    )
