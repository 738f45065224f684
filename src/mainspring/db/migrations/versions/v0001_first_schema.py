"""First schema (temporary form: made explicit before the first commit)."""

from __future__ import annotations

from alembic import op

from mainspring.db.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
