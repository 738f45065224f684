"""``mainspring remote`` and ``mainspring run --on``: runs on engines elsewhere, and pipelines for Airflow."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mainspring.cli.failures import RunFailed
from mainspring.cli.project import open_project
from mainspring.core import InvalidInput

if TYPE_CHECKING:
    from mainspring.lineage import Store
    from mainspring.pipelines import CompiledPipeline, PipelineRun
    from mainspring.pipelines.remote import Mirror, RemoteEngine, RemoteRun

LOCAL = ("local", "ray")
_POLL_SECONDS = 5.0

app = typer.Typer(help="Runs on Kubeflow Pipelines and Vertex AI.", no_args_is_help=True)
RunId = Annotated[str, typer.Argument(help="Id of the run.")]
Settings = Annotated[list[str] | None, typer.Option("--remote", help="NAME=VALUE of the engine's settings.")]
Poll = Annotated[float, typer.Option("--poll", min=0.05, help="Seconds between two looks.")]


@app.command("follow")
def follow(context: typer.Context, run_id: RunId, remote: Settings = None, poll: Poll = _POLL_SECONDS) -> None:
    """Mirror a run until it has ended; one whose follower was stopped is picked up where it is."""
    store = open_project(context)
    engine, _ = _engine_of(store, run_id, read_settings(remote))
    ended = _mirror(store).follow(engine, run_id, every_seconds=poll, on_change=_show)
    if ended.state != "COMPLETE":
        raise RunFailed(
            f"Run {run_id} ended as {ended.state}{f': {ended.error}' if ended.error else '.'}",
            hint=f"See its tasks: mainspring graph {run_id}",
        )
    typer.echo(f"run {run_id}: complete")


@app.command("cancel")
def cancel(context: typer.Context, run_id: RunId, remote: Settings = None) -> None:
    """Ask the engine to stop a run."""
    store = open_project(context)
    engine, id = _engine_of(store, run_id, read_settings(remote))
    engine.cancel(id)
    typer.echo(f"run {run_id} is being canceled")


def run_elsewhere(
    store: Store,
    on: str,
    compiled: CompiledPipeline,
    parameters: dict[str, Any],
    *,
    settings: Mapping[str, str],
    use_cache: bool,
    detach: bool,
    poll: float = _POLL_SECONDS,
) -> PipelineRun:
    """Submit a pipeline to an engine elsewhere and mirror the run until it has ended; ``detach`` only submits."""
    from mainspring.pipelines import get_run
    from mainspring.pipelines.remote import open_remote

    engine = open_remote(on, {**store.project.remotes.get(on, {}), **settings})
    mirror = _mirror(store)
    run_id = mirror.submit(engine, compiled, parameters=parameters, use_cache=use_cache)
    with store.database.read() as connection:
        begun = get_run(connection, run_id)
    typer.echo(f"run {run_id} on {on}: {begun.code['remote']['url'] or begun.code['remote']['id']}", err=True)
    for warning in begun.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return begun if detach else mirror.follow(engine, run_id, every_seconds=poll, on_change=_show)


def export_airflow(
    store: Store, target: Path, pipeline: str, compiled: CompiledPipeline, parameters: dict[str, Any], *, folder: Path
) -> None:
    """Write a DAG file that runs a pipeline by this command line."""
    from mainspring.pipelines.remote import airflow_dag, pipeline_parameters

    file, colon, function = pipeline.partition(":")
    name = f"{Path(file).absolute()}{colon}{function}" if Path(file).is_file() else pipeline
    ours = (sys.executable, "-m", "mainspring", "--project", str(folder.absolute()))
    command = (*ours, "run", name, "--home", str(store.settings.home))
    timing = next((found for found in store.project.schedules.values() if found.pipeline == pipeline), None)
    if timing is not None and timing.every:
        raise InvalidInput(
            f"The schedule of {pipeline} is every {timing.every}, which Airflow's cron cannot say.",
            hint="Write it as cron in mainspring.yaml.",
        )
    text = airflow_dag(
        name=compiled.name,
        command=command,
        parameters={**pipeline_parameters(compiled.ir), **parameters},
        schedule=(timing.cron or None) if timing else None,
        time_zone=timing.time_zone if timing else "UTC",
    )
    target.write_text(text)
    typer.echo(f"{target}: the DAG {compiled.name}", err=True)


def read_settings(texts: list[str] | None) -> dict[str, str]:
    """Read ``NAME=VALUE`` settings; raise `InvalidInput` for anything else."""
    found = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{text!r} is not a setting of an engine.", hint="Write --remote NAME=VALUE.")
        found[name] = value
    return found


def _engine_of(store: Store, run_id: str, settings: Mapping[str, str]) -> tuple[RemoteEngine, str]:
    from mainspring.pipelines import get_run
    from mainspring.pipelines.remote import open_remote, remote_id

    with store.database.read() as connection:
        run = get_run(connection, run_id)
    id = remote_id(run)
    name = str(run.code["remote"]["engine"])
    return open_remote(name, {**store.project.remotes.get(name, {}), **settings}), id


def _mirror(store: Store) -> Mirror:
    from mainspring.pipelines.remote import Mirror

    return Mirror(database=store.database, blobs=store.blobs, clock=store.clock, actor=store.actor)


def _show(seen: RemoteRun) -> None:
    done = sum(task.state not in ("PENDING", "RUNNING") for task in seen.tasks)
    typer.echo(f"  {seen.state.lower()}  {done} of {len(seen.tasks)} tasks done", err=True)
