"""Tables, migrations and engines for SQLite and PostgreSQL."""

from __future__ import annotations

from mainspring.db.engine import Database, connect
from mainspring.db.schema import current_revision, migrate, open_database

__all__ = ["Database", "connect", "current_revision", "migrate", "open_database"]
