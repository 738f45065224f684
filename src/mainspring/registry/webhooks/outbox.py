"""A cheap look into the outbox: a server that sends no webhooks need not import what sending takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainspring.db import Session

_DUE = "SELECT 1 FROM webhook_delivery WHERE due_at <= ? LIMIT 1"


def has_due(session: Session, now_ms: int) -> bool:
    """Say whether a notice waits whose time has come."""
    return session.row(_DUE, (now_ms,)) is not None
