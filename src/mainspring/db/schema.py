"""Bring a database to the schema this version of mainspring works with."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from mainspring.core import Conflict, Unavailable
from mainspring.db.engine import Database, connect

HEAD = "0001"
"""The newest migration; `tests/db` asserts that it is."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(url: str) -> Database:
    """Open the database at ``url`` and migrate it if it is older than this version.

    Raises `Conflict` when it is newer, `Unavailable` when it cannot be reached.
    """
    database = connect(url)
    try:
        found = current_revision(database)
    except DatabaseError as error:
        raise Unavailable(
            f"The database at {database.engine.url!r} cannot be opened: {_first_line(error)}",
            hint="Check the path or address, its permissions and that the server runs.",
        ) from error
    if found != HEAD:
        migrate(database)
    return database


def current_revision(database: Database) -> str | None:
    """Return the id of the last migration applied, or None for an empty database."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def migrate(database: Database) -> None:
    """Apply the migrations that are missing; one process does it, the others wait."""
    from alembic import command  # costs 0.2 s, and a store that is up to date never needs it
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with database.exclusive():
        found = current_revision(database)
        if found is not None and found not in known:
            raise Conflict(
                f"The database is at schema {found}, which this version of mainspring (schema {HEAD}) does not know.",
                hint="It was written by a newer version: upgrade mainspring.",
            )
        with database.engine.connect() as connection:
            if database.dialect == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7011)"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()


def _first_line(error: DatabaseError) -> str:
    return str(error.orig).strip().splitlines()[0]
