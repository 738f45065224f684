"""Connections to SQLite or PostgreSQL, with the one rule about writing.

SQLite takes one writer at a time, across all processes: `Database.write` holds an advisory file lock from
BEGIN to COMMIT, so nobody ever meets "database is locked", and the connection that writes is the only one
that checkpoints the write-ahead log (older SQLite builds can corrupt it when two do both at once).
On PostgreSQL a write is a plain transaction.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mainspring.core import InvalidInput, Unavailable


class Database:
    """A store of records: open it, read from it, write to it in transactions."""

    def __init__(self, engine: sa.Engine, lock_path: Path | None) -> None:
        self.engine = engine
        self._lock_path = lock_path

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a connection for reading (on SQLite, all of it sees the same moment)."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a transaction that commits at the end of the block, or leaves no trace if it raises.

        Keep the block short, and never open a second one inside it.
        """
        with (
            self.exclusive(),
            self.engine.connect().execution_options(mainspring_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the cross-process write lock of a SQLite file; nothing on PostgreSQL."""
        if self._lock_path is None:
            yield
            return
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def connect(url: str) -> Database:
    """Open the database at ``url`` without looking at its schema.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://…``.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(f"{url!r} is not a database URL.", hint="Use sqlite:///file.db or postgresql://…") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _connect_sqlite(parsed)
    if backend == "postgresql":
        return _connect_postgresql(parsed)
    raise InvalidInput(f"Databases of the kind {backend!r} are not supported.", hint="Use SQLite or PostgreSQL.")


def _connect_sqlite(url: sa.URL) -> Database:
    if not url.database or url.database == ":memory:":
        raise InvalidInput("An in-memory SQLite database cannot be shared by processes.", hint="Name a file.")
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The database at {path} cannot be opened: {error.strerror}.", hint="Check the path and its permissions."
        ) from error
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return Database(engine, path.with_name(path.name + ".lock"))


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_sqlite
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("mainspring_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _connect_postgresql(url: sa.URL) -> Database:
    try:
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise Unavailable(
            "PostgreSQL needs a driver that is not installed.", hint="Run: pip install 'mainspring[postgres]'"
        ) from error
    return Database(engine, None)
