"""Tables, migrations and engines for SQLite and PostgreSQL."""

from __future__ import annotations

from mainspring.db.engine import Database, connect
from mainspring.db.schema import current_revision, migrate, open_database
from mainspring.db.session import Row, Session, driver_errors, marks, read_json, session_of
from mainspring.db.writer import Job, Settled, Writer

__all__ = [
    "Database",
    "Job",
    "Row",
    "Session",
    "Settled",
    "Writer",
    "connect",
    "current_revision",
    "driver_errors",
    "marks",
    "migrate",
    "open_database",
    "read_json",
    "session_of",
]
