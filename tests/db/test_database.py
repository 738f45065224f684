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
from mainspring.db import Database, connect, current_revision, driver_errors, migrate, open_database, schema
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


def test_the_snapshot_makes_the_same_store_as_the_migrations(tmp_path: Path) -> None:
    by_snapshot = open_database(f"sqlite:///{tmp_path / 'new.db'}")
    by_migrations = connect(f"sqlite:///{tmp_path / 'old.db'}")
    schema._upgrade(by_migrations)

    def described(database: Database) -> list[tuple[str, str, str]]:
        with database.session() as session:
            rows = session.rows("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name")
        return [(kind, name, " ".join(sql.split())) for kind, name, sql in rows]

    assert described(by_snapshot) == described(by_migrations)
    assert current_revision(by_snapshot) == schema.HEAD


def test_metrics_of_an_older_store_move_to_the_new_tables(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    database = connect(f"sqlite:///{tmp_path / 'test.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    with database.write_session() as session:
        session.run(
            "INSERT INTO experiment (id, name, artifact_location, lifecycle_stage, created_at, updated_at) "
            "VALUES (1, 'e', 'x', 'active', 0, 0)"
        )
        session.run(
            'INSERT INTO run (number, id, experiment_id, name, "user", status, lifecycle_stage, artifact_uri, '
            "start_time) VALUES (1, 'r', 1, 'r', '', 'RUNNING', 'active', 'x', 0)"
        )
        points = [(1, "a", 5, 0, 0.5, False), (1, "a", 6, 1, 0.0, True), (1, "b", 7, 2, 1.5, False)]
        session.run_many("INSERT INTO metric_point VALUES (?,?,?,?,?,?)", points)
        latest = [(1, "a", 1, 6, 0.0, True), (1, "b", 2, 7, 1.5, False)]
        session.run_many(
            "INSERT INTO latest_metric (run, key, step, timestamp, value, is_nan) VALUES (?,?,?,?,?,?)", latest
        )
    migrate(database)
    with database.session() as session:
        history = session.rows(
            "SELECT n.name, h.timestamp, h.step, h.value FROM metric_history h JOIN metric_name n ON n.id = h.metric "
            "ORDER BY n.name, h.timestamp"
        )
        newest = session.rows(
            "SELECT n.name, l.step, l.value, l.is_nan FROM metric_latest l JOIN metric_name n ON n.id = l.metric "
            "ORDER BY n.name"
        )
    assert history == [("a", 5, 0, 0.5), ("a", 6, 1, float("inf")), ("b", 7, 2, 1.5)]
    assert newest == [("a", 1, 0.0, 1), ("b", 2, 1.5, 0)]


def test_a_write_that_fails_leaves_no_trace_and_the_next_one_goes_on(database: Database) -> None:
    def write(id: str, then: str) -> None:
        with database.write_session() as session:
            session.run("INSERT INTO context (id,type,name,created_at,properties) VALUES (?,'t',?,0,'{}')", (id, id))
            session.run(then)
            assert id != "asserted"

    with pytest.raises(driver_errors()):
        write("broken", "SELECT nothing FROM nowhere")
    with pytest.raises(AssertionError):
        write("asserted", "SELECT 1")
    write("good", "SELECT 1")
    with database.session() as session:
        assert session.rows("SELECT id FROM context") == [("good",)]
