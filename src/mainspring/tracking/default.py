"""Experiment 0, ``Default``: where runs go that name no experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.core import Clock
from mainspring.db import Session, session_of
from mainspring.tracking.locations import root_location

if TYPE_CHECKING:
    import sqlalchemy as sa

DEFAULT_ID = "0"


def ensure_default_experiment(connection: sa.Connection | Session, clock: Clock, *, artifact_root: str = "") -> None:
    """Make the default experiment if it is not there."""
    now, location = clock.now_ms(), root_location(artifact_root) + DEFAULT_ID
    session_of(connection).run(
        "INSERT INTO experiment (id, name, artifact_location, lifecycle_stage, created_at, updated_at) "
        "VALUES (0, 'Default', ?, 'active', ?, ?) ON CONFLICT (id) DO NOTHING",
        (location, now, now),
    )
