"""``mainspring config``: what is set, and where each value came from."""

from __future__ import annotations

import typer

from mainspring.cli.project import options_of

app = typer.Typer(help="Settings and where they come from.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def about() -> None:
    """Settings and where they come from."""


@app.command("show")
def show(context: typer.Context) -> None:
    """Print every setting, its value and its source."""
    from rich.console import Console
    from rich.table import Table

    settings, project = options_of(context).load()
    table = Table("setting", "value", "source", box=None, pad_edge=False)
    table.add_row("project", project.project, str(settings.project_folder))
    for name, source in settings.sources.items():
        value = getattr(settings.values, name)
        shown = "***" if name == "token" and value else str(value)
        if name == "database":
            shown = _without_password(settings.database_url)
        table.add_row(name, shown, source)
    Console().print(table)


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    scheme, colons, login = head.partition("://")
    user, colon, _ = login.partition(":")
    return f"{scheme}{colons}{user}:***{at}{tail}" if at and colon else url
