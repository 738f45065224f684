from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from mainspring.core import Conflict, InvalidInput, Unavailable
from mainspring.db import Database, connect, current_revision, migrate, open_database, schema
from mainspring.db.tables import metadata


def test_a_new_store_is_at_the_newest_schema(database: Database) -> None:
    assert current_revision(database) == schema.HEAD
    assert ScriptDirectory(str(Path(schema.__file__).parent / "migrations")).get_current_head() == schema.HEAD


def test_migrations_and_tables_say_the_same(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    assert current_revision(database) == schema.HEAD


def test_a_database_from_the_future_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="schema 9999") as caught:
        migrate(database)
    assert "upgrade mainspring" in caught.value.hint


@pytest.mark.parametrize("url", ["nonsense", "oracle://x/y", "sqlite://"])
def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        connect(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, but long enough to look at" * 40)
    with pytest.raises(Unavailable, match="cannot be opened"):
        open_database(f"sqlite:///{tmp_path}/x.db")


def test_a_read_only_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be opened"):
        open_database(f"sqlite:///{tmp_path}/file/x.db")


def test_sqlite_runs_in_write_ahead_mode(sqlite_database: Database) -> None:
    with sqlite_database.read() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA foreign_keys")).scalar() == 1


WRITER = """
import sys
from mainspring.core import SystemClock
from mainspring.db import connect
from mainspring.lineage import record_event
database = connect(sys.argv[1])
for number in range(int(sys.argv[2])):
    with database.write() as connection:
        id = record_event(connection, SystemClock(), "test", source="s", subject=sys.argv[3], data={"n": number})
    print(id, flush=True)
"""


def start_writer(url: str, count: int, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, url, str(count), name], stdout=subprocess.PIPE, text=True)


def test_many_processes_write_one_sqlite_file_without_an_error(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/test.db"
    database = open_database(url)
    writers = [start_writer(url, 150, str(number)) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM event")).scalar() == 600


def test_kill_9_loses_no_acknowledged_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/test.db"
    database = open_database(url)
    acknowledged: list[str] = []
    for number in range(3):
        writer = start_writer(url, 1_000_000, str(number))
        assert writer.stdout is not None
        acknowledged.append(writer.stdout.readline().strip())
        time.sleep(0.15)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.wait()
    with database.read() as connection:
        stored = set(connection.execute(sa.text("SELECT id FROM event")).scalars())
    assert len(acknowledged) > 10
    assert set(acknowledged) <= stored
    assert sqlite3.connect(tmp_path / "test.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
