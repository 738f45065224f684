"""Insert or update rows, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    keys: tuple[str, ...],
    update: tuple[str, ...],
    newer: tuple[str, ...] = (),
) -> None:
    """Insert rows; where one with the same ``keys`` exists, replace its ``update`` columns, if any.

    With ``newer``, an existing row is only replaced by one that is greater in these columns.
    """
    if not rows:
        return
    insert = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    if not update:
        connection.execute(insert.on_conflict_do_nothing(index_elements=keys), rows)
        return
    where = None
    if newer:
        given, kept = (insert.excluded[name] for name in newer), (table.c[name] for name in newer)
        where = sa.tuple_(*given) > sa.tuple_(*kept)
    changes = {name: insert.excluded[name] for name in update}
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changes, where=where), rows)
