"""What all tables share: the metadata, and how we store times and documents.

Times are milliseconds since the epoch (UTC) in a BIGINT, the form MLflow clients send and expect.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def time_column(name: str, *, nullable: bool = False) -> sa.Column[int]:
    """Make a column for a time in milliseconds since the epoch."""
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def json_column(name: str) -> sa.Column[Any]:
    """Make a column for a JSON document (``{}`` when nothing is given)."""
    return sa.Column(name, sa.JSON, nullable=False, default=dict)
