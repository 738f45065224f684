"""One transaction at driver level: plain SQL for the paths on which SQLAlchemy's own work would cost the most.

Statements are written once, with ``?`` for parameters, in the SQL that SQLite and PostgreSQL share.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mainspring.core import Foreign, Json

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = tuple[Any, ...]


class Session:
    """Runs statements on the connection of a driver (`sqlite3` or `psycopg`), in the transaction that is open there."""

    __slots__ = ("_connection", "_is_sqlite", "metric_ids")

    def __init__(self, connection: Foreign, *, is_sqlite: bool) -> None:  # two drivers, no common type
        self._connection = connection
        self._is_sqlite = is_sqlite
        self.metric_ids: dict[str, int] = {}
        """Numbers of metric names that this session has looked up; whoever keeps a session empties it in time."""

    @property
    def is_sqlite(self) -> bool:
        """Whether the statements go to SQLite, else to PostgreSQL."""
        return self._is_sqlite

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a statement and return all of its rows."""
        found: list[Row] = self._connection.execute(self._written(statement), parameters).fetchall()
        return found

    def row(self, statement: str, parameters: Sequence[object] = ()) -> Row | None:
        """Run a statement and return its first row, if there is one."""
        found: Row | None = self._connection.execute(self._written(statement), parameters).fetchone()
        return found

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        changed: int = self._connection.execute(self._written(statement), parameters).rowcount
        return changed

    def run_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of the rows."""
        if self._is_sqlite:
            self._connection.executemany(statement, rows)
            return
        with self._connection.cursor() as cursor:
            cursor.executemany(_percent(statement), rows)

    def close(self) -> None:
        """Close the connection; a transaction that is open leaves no trace."""
        self._connection.close()

    def _written(self, statement: str) -> str:
        return statement if self._is_sqlite else _percent(statement)


def session_of(connection: sa.Connection | Session) -> Session:
    """Return the driver-level session of a connection; its statements belong to the connection's transaction."""
    if isinstance(connection, Session):
        return connection
    if not connection.in_transaction():
        connection.begin()  # stays open until the connection is closed, as after any first statement
    return Session(connection.connection.dbapi_connection, is_sqlite=connection.dialect.name == "sqlite")


def driver_errors() -> tuple[type[Exception], ...]:
    """Return the classes of what drivers raise; psycopg's only if it is in use, it is an extra."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)


def read_json(value: object) -> Json:
    """Return what a JSON column holds: SQLite's driver hands over its text, psycopg what the text means."""
    return json.loads(value) if isinstance(value, str) else value


def marks(values: Sequence[object]) -> str:
    """Return as many parameter marks as there are values: ``?,?,?``."""
    return ",".join("?" * len(values))


@lru_cache(maxsize=256)
def _percent(statement: str) -> str:
    """Write parameters as psycopg wants them."""
    return statement.replace("%", "%%").replace("?", "%s")
