"""``mainspring run``, ``resume``, ``runs`` and ``logs``: pipeline runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mainspring.cli.project import open_project
from mainspring.core import InvalidInput, MainspringError

if TYPE_CHECKING:
    from mainspring.lineage import Store
    from mainspring.pipelines import Engine, PipelineRun, TaskProgress

GLYPHS = {"COMPLETE": "✓", "CACHED": "↺", "FAILED": "✗", "SKIPPED": "-", "RUNNING": "…", "CANCELED": "✗"}


class RunFailed(MainspringError):
    """The pipeline run ended, but not well."""

    code = "RUN_FAILED"
    exit_status = 8


def run(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline in mainspring.yaml.")],
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE, VALUE as JSON.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every task, whatever ran before.")] = False,
) -> None:
    """Run a pipeline here and now, and put the version it registers on its way to the endpoint."""
    from mainspring.automation.training import create_run

    store = open_project(context)
    arguments = dict(parse_parameter(text) for text in parameter or ())
    with engine_of(store) as engine:
        run_id = create_run(store, engine, pipeline, arguments, use_cache=not no_cache)
        typer.echo(f"run {run_id}")
        _finish(store, engine, run_id)


def resume(
    context: typer.Context, run_id: Annotated[str, typer.Argument(help="Id of a run that did not end.")]
) -> None:
    """Go on with a run where it stopped; tasks that are finished do not run again."""
    store = open_project(context)
    with engine_of(store) as engine:
        _finish(store, engine, run_id)


def list_(
    context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 20
) -> None:
    """Print the latest pipeline runs."""
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso
    from mainspring.pipelines import list_runs

    store = open_project(context)
    with store.database.read() as connection:
        runs = list_runs(connection, limit)
    if not runs:
        typer.echo("No pipeline has run yet. Start one with: mainspring run PIPELINE")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("run", no_wrap=True, min_width=26)
    for name in ("pipeline", "state", "created", "by", "error"):
        table.add_column(name, overflow="fold")
    for found in runs:
        state = f"{GLYPHS.get(found.state, '')} {found.state}"
        table.add_row(found.id, found.pipeline, state, to_iso(found.created_at), found.actor, found.error)
    Console().print(table)


def logs(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Id of the run.")],
    task: Annotated[str, typer.Argument(help="Name of the task.")],
) -> None:
    """Print what a task printed."""
    store = open_project(context)
    with engine_of(store, needs_server=False) as engine:
        typer.echo(engine.task_log(run_id, task).read_text(errors="replace"), nl=False)


def parse_parameter(text: str) -> tuple[str, Any]:
    """Split ``NAME=VALUE``; VALUE is JSON, or a string if it is not JSON."""
    import msgspec

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput(f"{text!r} is not a parameter.", hint="Write -p NAME=VALUE.")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


@contextmanager
def engine_of(store: Store, *, needs_server: bool = True) -> Iterator[Engine]:
    """Open an engine for this command; its tasks log to the project's server, started for the while if none runs."""
    from mainspring.automation.training import open_engine
    from mainspring.cli.up import running_server
    from mainspring.pipelines import ProcessLauncher

    launcher = ProcessLauncher(log=store.settings.home / "logs" / "zygote.log")
    store.settings.home.joinpath("logs").mkdir(exist_ok=True)
    try:
        if needs_server:
            with running_server(store.settings):
                yield open_engine(store, launcher)
        else:
            yield open_engine(store, launcher, tracking="")
    finally:
        launcher.close()


def _finish(store: Store, engine: Engine, run_id: str) -> None:
    from mainspring.automation.training import adopt_result

    finished = engine.execute(run_id, on_progress=_show)
    if finished.state == "COMPLETE":
        adopt_result(store, finished)
        typer.echo(f"run {run_id} is complete")
        return
    raise _failure(finished)


def _show(progress: TaskProgress) -> None:
    typer.echo(f"  {GLYPHS.get(progress.state, ' ')} {progress.address}  {progress.state.lower()}")


def _failure(finished: PipelineRun) -> RunFailed:
    return RunFailed(
        f"Run {finished.id} ended as {finished.state}: {finished.error}",
        hint=f"See what a task printed with: mainspring logs {finished.id} TASK",
    )
