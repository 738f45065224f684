"""What becomes of the rows of a table before a migration drops it."""

from __future__ import annotations

import sqlalchemy as sa

MOVES = {
    "metric_point": (
        "INSERT INTO metric_name (name) SELECT DISTINCT key FROM metric_point WHERE true ON CONFLICT DO NOTHING",
        "INSERT INTO metric_history (run, metric, timestamp, step, value) "
        "SELECT p.run, n.id, p.timestamp, p.step, CASE WHEN p.is_nan THEN {infinity} ELSE p.value END "
        "FROM metric_point AS p JOIN metric_name AS n ON n.name = p.key",
    ),
    "latest_metric": (
        "INSERT INTO metric_name (name) SELECT DISTINCT key FROM latest_metric WHERE true ON CONFLICT DO NOTHING",
        "INSERT INTO metric_latest (run, metric, step, timestamp, value, is_nan) "
        "SELECT p.run, n.id, p.step, p.timestamp, p.value, p.is_nan "
        "FROM latest_metric AS p JOIN metric_name AS n ON n.name = p.key",
    ),
}
"""Statements by the name of the table that goes."""

_INFINITY = {"sqlite": "9e999", "postgresql": "CAST('Infinity' AS DOUBLE PRECISION)"}


def move_rows(connection: sa.Connection, table: str) -> None:
    """Move the rows of a table that is about to be dropped to where they belong now."""
    for statement in MOVES[table]:
        connection.execute(sa.text(statement.format(infinity=_INFINITY[connection.dialect.name])))
