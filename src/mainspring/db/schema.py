"""Bring a database to the schema this version of mainspring works with."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from mainspring.core import Conflict, Unavailable
from mainspring.db.engine import Database, connect
from mainspring.db.session import driver_errors

HEAD = "0002"
"""The newest migration; `tests/db` asserts that it is."""

_MIGRATIONS = Path(__file__).parent / "migrations"
SNAPSHOT = _MIGRATIONS / "sqlite.sql"
"""The whole schema as SQLite writes it, for new stores: `scripts/migration` writes it, `tests/db` checks it."""


def open_database(url: str) -> Database:
    """Open the database at ``url`` and migrate it if it is older than this version.

    Raises `Conflict` when it is newer, `Unavailable` when it cannot be reached.
    """
    database = connect(url)
    try:
        found = current_revision(database)
    except driver_errors() as error:
        raise Unavailable(
            f"The database at {database.address} cannot be opened: {_first_line(error)}",
            hint="Check the path or address, its permissions and that the server runs.",
        ) from error
    if found != HEAD:
        migrate(database)
    return database


def current_revision(database: Database) -> str | None:
    """Return the id of the last migration applied, or None for an empty database."""
    with database.session() as session:
        there = session.row(
            "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
            if session.is_sqlite
            else "SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL"
        )
        found = session.row("SELECT version_num FROM alembic_version") if there else None
    return None if found is None else str(found[0])


def migrate(database: Database) -> None:
    """Apply the migrations that are missing; one process does it, the others wait."""
    if database.dialect == "sqlite" and _create(database):
        return
    _upgrade(database)


def _create(database: Database) -> bool:
    """Give a new SQLite store its schema at once; return False if it is not new."""
    with database.exclusive(), closing(database.open_session()) as session:
        if session.row("SELECT 1 FROM sqlite_master LIMIT 1") is not None:
            return False
        session.run("BEGIN IMMEDIATE")
        for statement in SNAPSHOT.read_text().split(";\n"):
            session.run(statement)
        session.run("COMMIT")
    return True


def _upgrade(database: Database) -> None:
    import sqlalchemy as sa
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
