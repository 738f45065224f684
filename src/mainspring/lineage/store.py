"""The store of one project: its settings, records, bytes, clock and who is acting."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path

from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, Unavailable, open_clock
from mainspring.core.project import Project
from mainspring.core.settings import ResolvedSettings
from mainspring.db import Database, open_database


@dataclass(frozen=True, slots=True)
class Store:
    """Everything a part needs to read and write a project's state."""

    settings: ResolvedSettings
    project: Project
    database: Database
    blobs: LocalBlobs
    clock: Clock
    actor: str

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.settings.project_folder

    def close(self) -> None:
        """Close the database connections."""
        self.database.close()


def open_store(settings: ResolvedSettings, project: Project) -> Store:
    """Open a project's store, making it if it is new and migrating it if it is old."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"The store cannot be at {settings.home}: {error.strerror}.", hint="Check --home.") from error
    return Store(
        settings=settings,
        project=project,
        database=open_database(settings.database_url),
        blobs=LocalBlobs(settings.blobs_path),
        clock=open_clock(settings.clock_spec),
        actor=settings.values.actor or _login_name(),
    )


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without a name
        return "unknown"
