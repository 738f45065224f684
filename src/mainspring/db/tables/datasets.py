"""Tables of the datasets room."""

from __future__ import annotations

import sqlalchemy as sa

from mainspring.db.tables.base import metadata, time_column

dataset_snapshot = sa.Table(
    "dataset_snapshot",
    metadata,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(80), nullable=False, unique=True),
    sa.Column("dataset", sa.String(128), nullable=False, index=True),
    sa.Column("parent", sa.ForeignKey("dataset_snapshot.id"), nullable=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("parts", sa.Integer, nullable=False),
    time_column("time_from", nullable=True),
    time_column("time_to", nullable=True),
    time_column("created_at"),
    sa.Column("artifact_id", sa.ForeignKey("artifact.id"), nullable=False),
)
