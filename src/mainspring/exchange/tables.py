"""The rows of our own tables as lines of JSON, the same for SQLite and PostgreSQL.

What JSON cannot carry is text: bytes in base 64, NaN and the infinities by name. The type of the column says how to
read it back.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import Corrupt
from mainspring.db.tables import metadata

_ENCODER = msgspec.json.Encoder()
_CHUNK = 1000
Row = dict[str, Any]


def all_tables() -> list[sa.Table]:
    """Return all tables, in an order in which rows refer to earlier ones only."""
    return list(metadata.sorted_tables)


def read_lines(connection: sa.Connection, table: sa.Table) -> Iterator[bytes]:
    """Yield every row as a line, in the order of the primary key."""
    query = sa.select(table).order_by(*table.primary_key.columns)
    streamed = connection.execution_options(yield_per=_CHUNK)
    for row in streamed.execute(query).mappings():
        yield _ENCODER.encode({column.name: _encode(row[column]) for column in table.columns}) + b"\n"


def read_row(table: sa.Table, line: bytes) -> Row:
    """Return the row of a line; raise `Corrupt` if it is none of this table."""
    try:
        found = msgspec.json.decode(line)
        return {column.name: _decode(column, found[column.name]) for column in table.columns}
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise _not_a_row(table, error) from error


def insert_rows(connection: sa.Connection, table: sa.Table, lines: Iterator[bytes]) -> int:
    """Insert the rows of lines and return how many there are."""
    count = 0
    while chunk := [read_row(table, line) for line in islice(lines, _CHUNK)]:
        try:
            connection.execute(sa.insert(table), chunk)
        except sa.exc.SQLAlchemyError as error:
            raise _not_a_row(table, error) from error
        count += len(chunk)
    reset_sequence(connection, table)
    return count


def is_empty(connection: sa.Connection) -> bool:
    """Say whether nothing has been stored yet: at most experiment 0 is there, which is made with the store."""
    for table in all_tables():
        query = sa.select(sa.func.count()).select_from(table)
        if table.name == "experiment":
            query = query.where(table.c.id != 0)
        if connection.execute(query).scalar_one():
            return False
    return True


def reset_sequence(connection: sa.Connection, table: sa.Table) -> None:
    """Let PostgreSQL count on after the ids that were given; SQLite does so by itself."""
    column = table.autoincrement_column
    if column is None or connection.dialect.name != "postgresql":
        return
    sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
    highest = sa.select(sa.func.max(column)).scalar_subquery()
    connection.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(highest, 1), highest.is_not(None))))


def _not_a_row(table: sa.Table, error: Exception) -> Corrupt:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return Corrupt(f"A line of table {table.name} is no row of it: {reason}", hint="The export was not made by us.")


def _encode(value: object) -> object:
    if isinstance(value, (bytes, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _decode(column: sa.Column[Any], value: object) -> object:
    if value is None or isinstance(column.type, sa.JSON):
        return value
    if isinstance(column.type, sa.LargeBinary) and isinstance(value, str):
        return base64.b64decode(value)
    if isinstance(column.type, sa.Float) and isinstance(value, (str, int)):
        return float(value)
    return value
