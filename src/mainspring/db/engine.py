"""Connections to SQLite or PostgreSQL, with the one rule about writing.

SQLite takes one writer at a time, across all processes: `Database.write` holds an advisory file lock from
BEGIN to COMMIT, so nobody ever meets "database is locked", and the connection that writes is the only one
that checkpoints the write-ahead log (older SQLite builds can corrupt it when two do both at once).
On PostgreSQL a write is a plain transaction.

SQLAlchemy is imported when somebody first needs it: a server that only takes metrics never does.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.core import InvalidInput, Unavailable
from mainspring.db.session import Session, driver_errors

if TYPE_CHECKING:
    import sqlalchemy as sa

SYNCHRONOUS = ("full", "normal")
"""Whether a commit on SQLite outlives a power cut (full), or a crash of the process only (normal)."""


class Database:
    """A store of records: open it, read from it, write to it in transactions."""

    def __init__(self, url: str, path: Path | None, *, synchronous: str = SYNCHRONOUS[0]) -> None:
        """Name the database: a SQLite file at ``path``, or else a PostgreSQL ``url``."""
        self._url = url
        self._path = path
        self._synchronous = synchronous
        self._idle: deque[Session] = deque()
        self._lock_path = None if path is None else path.with_name(path.name + ".lock")

    @cached_property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine for this database."""
        import sqlalchemy as sa

        if self._path is None:
            return sa.create_engine(self._url, pool_pre_ping=True)
        url = sa.URL.create("sqlite", database=str(self._path))
        engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})
        sa.event.listen(engine, "connect", lambda connection, _: self._prepare(connection))
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return "postgresql" if self._path is None else "sqlite"

    @property
    def address(self) -> str:
        """Where it is, for people; without a password."""
        return repr(self.engine.url) if self._path is None else f"sqlite:///{self._path}"

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
    def write_session(self) -> Iterator[Session]:
        """Open a transaction at driver level that commits at the end of the block, or leaves no trace if it raises.

        Keep the block short, and never open a second one inside it.
        """
        with self.exclusive():
            session = self._begin("BEGIN" if self._path is None else "BEGIN IMMEDIATE")
            try:
                yield session
                session.run("COMMIT")
            except BaseException:
                session.close()  # whatever state it is in, nothing of it stays
                raise
            self._keep(session)

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

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction for reading at driver level; all of it sees the same moment."""
        session = self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY" if self._path is None else "BEGIN")
        try:
            yield session
        finally:
            try:
                session.run("ROLLBACK")
            except driver_errors():
                session.close()
            else:
                self._keep(session)

    def open_session(self) -> Session:
        """Open a connection at driver level for the caller alone, who says BEGIN and COMMIT, and closes it."""
        if self._path is None:
            import psycopg  # an extra

            return Session(psycopg.connect(_conninfo(self._url), autocommit=True), is_sqlite=False)
        connection = sqlite3.connect(self._path, timeout=30, check_same_thread=False)
        self._prepare(connection)
        return Session(connection, is_sqlite=True)

    def close(self) -> None:
        """Close all connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()
        if "engine" in self.__dict__:
            self.engine.dispose()

    def _keep(self, session: Session) -> None:
        """Put a session that is in no transaction aside for the next who needs one."""
        session.metric_ids.clear()
        self._idle.append(session)

    def _begin(self, begin: str) -> Session:
        """Return a session in a transaction: an idle one, unless its connection was cut meanwhile, or a new one."""
        while self._idle:
            session = self._idle.pop()
            try:
                session.run(begin)
            except driver_errors():
                session.close()
            else:
                return session
        session = self.open_session()
        session.run(begin)
        return session

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        synchronous = f"synchronous={self._synchronous}"
        for pragma in ("journal_mode=WAL", synchronous, "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")


def connect(url: str) -> Database:
    """Open the database at ``url`` without looking at its schema.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://…``. What is committed to a SQLite
    file outlives a power cut; ``sqlite:///file.db?synchronous=normal`` gives that up for speed, not the safety against
    crashes.
    """
    if url.startswith("sqlite:///"):
        return _connect_sqlite(url)
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise InvalidInput(f"{url!r} is not a database URL.", hint="Use sqlite:///file.db or postgresql://…") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        raise InvalidInput("An in-memory SQLite database cannot be shared by processes.", hint="Name a file.")
    if backend == "postgresql":
        return _connect_postgresql(parsed)
    raise InvalidInput(f"Databases of the kind {backend!r} are not supported.", hint="Use SQLite or PostgreSQL.")


def _connect_sqlite(url: str) -> Database:
    name, _, options = url.removeprefix("sqlite:///").partition("?")
    if name in ("", ":memory:"):
        raise InvalidInput("An in-memory SQLite database cannot be shared by processes.", hint="Name a file.")
    synchronous = options.removeprefix("synchronous=").lower() if options else SYNCHRONOUS[0]
    if synchronous not in SYNCHRONOUS:
        raise InvalidInput(
            f"Unknown options of a SQLite database: {options!r}.", hint="Use ?synchronous=full or normal."
        )
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The database at {path} cannot be opened: {error.strerror}.", hint="Check the path and its permissions."
        ) from error
    return Database(url, path, synchronous=synchronous)


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("mainspring_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _connect_postgresql(url: sa.URL) -> Database:
    try:
        import psycopg  # noqa: F401 - an extra; asked for here so that the error comes early
    except ModuleNotFoundError as error:
        raise Unavailable(
            "PostgreSQL needs a driver that is not installed.", hint="Run: pip install 'mainspring[postgres]'"
        ) from error
    return Database(url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False), None)


def _conninfo(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
