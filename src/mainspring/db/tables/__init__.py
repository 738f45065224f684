"""All tables, one module per aggregate; only the room that owns an aggregate may import its module."""

from __future__ import annotations

from mainspring.db.tables import (
    automation,
    datasets,
    delivery,
    kfp,
    lineage,
    monitoring,
    pipelines,
    registry,
    schedules,
    tracking,
    webhooks,
)
from mainspring.db.tables.base import metadata

__all__ = [
    "automation",
    "datasets",
    "delivery",
    "kfp",
    "lineage",
    "metadata",
    "monitoring",
    "pipelines",
    "registry",
    "schedules",
    "tracking",
    "webhooks",
]
