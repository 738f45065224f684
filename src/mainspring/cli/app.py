"""The commands and the options they share. Heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mainspring import __version__
from mainspring.cli import (
    batch,
    config,
    data,
    demo,
    events,
    exchange,
    models,
    models_accelerate,
    package,
    predictions,
    remote,
    run_graph,
    runs,
    schedules,
    serve,
    server,
    tracking_runs,
    up,
    why,
)
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
app.command("server")(server.server)
app.command("scheduler", hidden=True)(up.scheduler)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("predict")(batch.predict)
app.command("package")(package.package)
app.command("run")(runs.run)
app.command("resume")(runs.resume)
app.command("retry")(runs.retry)
app.command("cancel")(runs.cancel)
app.command("graph")(run_graph.graph)
app.command("compile")(runs.compile_)
app.command("worker")(runs.worker)
app.add_typer(run_graph.app, name="pipelines")
app.add_typer(tracking_runs.app, name="runs")
app.command("logs")(runs.logs)
app.command("export")(exchange.export)
app.command("import")(exchange.import_)
app.command("export-mlflow")(exchange.export_mlflow)
app.command("import-mlflow")(exchange.import_mlflow)
app.add_typer(exchange.client, name="client")
app.command("why")(why.why)
app.command("events")(events.list_)
models.app.command("accelerate")(models_accelerate.accelerate)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(predictions.app, name="predictions")
app.add_typer(predictions.labels, name="labels")
app.add_typer(schedules.app, name="schedules")
app.add_typer(remote.app, name="remote")
app.add_typer(config.app, name="config")
