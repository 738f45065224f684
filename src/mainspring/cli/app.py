"""The commands and the options they share. Heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mainspring import __version__
from mainspring.cli import config, data, demo, events, models, runs, serve, up, why
from mainspring.cli.project import Options

app = typer.Typer(
    name="mainspring",
    help="Take a machine-learning model from data to production, and keep it right there.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mainspring {__version__}")
        raise typer.Exit


@app.callback()
def share_options(
    context: typer.Context,
    project: Annotated[Path, typer.Option(help="Project folder, the one with mainspring.yaml.")] = Path(),
    home: Annotated[str | None, typer.Option(help="Folder of the embedded store.")] = None,
    database: Annotated[str | None, typer.Option(help="Database URL: sqlite:///… or postgresql://…")] = None,
    host: Annotated[str | None, typer.Option(help="Address the server binds to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port the server binds to.")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Remember the options every command shares."""
    context.obj = Options(folder=project, flags={"home": home, "database": database, "host": host, "port": port})


app.command("up")(up.up)
app.command("server", hidden=True)(up.server)
app.command("scheduler", hidden=True)(up.scheduler)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("run")(runs.run)
app.command("resume")(runs.resume)
app.command("runs")(runs.list_)
app.command("logs")(runs.logs)
app.command("models")(models.list_)
app.command("why")(why.why)
app.command("events")(events.list_)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
