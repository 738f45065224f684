"""From the command line's options to a project's settings and store. The only place that reads the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mainspring.core import InvalidInput, NotFound
from mainspring.core.project import FILE_NAME, Project, load_project
from mainspring.core.settings import ResolvedSettings, resolve_settings

if TYPE_CHECKING:
    from mainspring.lineage import Store


@dataclass(frozen=True, slots=True)
class Options:
    """The options shared by all commands."""

    folder: Path
    flags: dict[str, str | int | None]

    def load(self) -> tuple[ResolvedSettings, Project]:
        """Read the project file and resolve the settings; a folder without a project file is an empty project."""
        if not self.folder.is_dir():
            raise InvalidInput(f"There is no folder {self.folder}.", hint="Pass a project folder with --project DIR.")
        has_file = (self.folder / FILE_NAME).is_file()
        project = load_project(self.folder) if has_file else Project(project=self.folder.resolve().name)
        settings = resolve_settings(self.folder, file=project.settings, environment=os.environ, flags=self.flags)
        return settings, project

    def open(self) -> Store:
        """Open the project's store."""
        from mainspring.lineage import open_store

        return open_store(*self.load())


def options_of(context: typer.Context) -> Options:
    """Return the shared options of the running command."""
    options = context.obj
    if not isinstance(options, Options):
        raise InvalidInput("The command was called without its shared options.")
    return options


def open_project(context: typer.Context) -> Store:
    """Open the store of the project the running command is about."""
    return options_of(context).open()


def open_existing(context: typer.Context) -> Store:
    """Open a store to look at it: a folder that is no project gets no empty store by a glance."""
    options = options_of(context)
    settings, _ = options.load()
    has_store = settings.values.database or settings.home.is_dir()
    if not has_store and not (options.folder / FILE_NAME).is_file():
        raise NotFound(
            f"{options.folder.resolve()} is no project: it has neither {FILE_NAME} nor a store.",
            hint="Pass one with --project DIR, or make a store here with: mainspring up",
        )
    return options.open()
