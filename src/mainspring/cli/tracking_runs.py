"""``mainspring runs``: what was tried, with which params, to what end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mainspring.cli.project import open_project
from mainspring.cli.sparklines import sparkline
from mainspring.core import InvalidInput, NotFound

if TYPE_CHECKING:
    import polars
    import sqlalchemy as sa

    from mainspring.lineage import Store
    from mainspring.tracking import Run

app = typer.Typer(help="Runs: what was tried, and how it went.", rich_markup_mode=None)
GLYPHS = {"FINISHED": "✓", "FAILED": "✗", "KILLED": "✗", "RUNNING": "…", "SCHEDULED": "·"}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Experiments = Annotated[list[str] | None, typer.Option("--experiment", "-e", help="Name of an experiment; repeatable.")]
Filter = Annotated[
    str, typer.Option("--filter", "-f", help="MLflow's filter: \"metrics.loss < 0.3 and params.lr = '1'\".")
]
_SMALLER_IS_BETTER = ("loss", "error", "rmse", "mse", "mae", "mape", "perplexity", "brier", "latency", "duration")


@app.callback(invoke_without_command=True)
def runs(context: typer.Context) -> None:
    """Show the latest runs, or what a sub-command asks for."""
    if context.invoked_subcommand is None:
        list_(context)


@app.command("list")
def list_(
    context: typer.Context,
    experiment: Experiments = None,
    filter: Filter = "",
    order_by: Annotated[list[str] | None, typer.Option(help='Such as "metrics.loss ASC"; repeatable.')] = None,
    limit: Annotated[int, typer.Option(min=1, max=50_000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first unless ordered otherwise."""
    store = open_store_with_spools(context)
    with store.database.read() as connection:
        found = _search(connection, experiment or (), filter, order_by or (), limit)
    if as_json:
        return _print_json(found)
    if not found:
        typer.echo("No runs. Log one with mlflow, or with: mainspring.client.start_run()")
        return None
    return _print_runs(found)


@app.command("show")
def show(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Id of a run (its beginning is enough), or of a pipeline run.")],
    as_json: AsJson = False,
) -> None:
    """Show params, metrics with their course, tags and artifacts of a run; the tasks of a pipeline run."""
    from mainspring.tracking import find_run, metric_history

    store = open_store_with_spools(context)
    with store.database.read() as connection:
        found = find(connection, run_id)
        if found is None:
            return _show_pipeline_run(store, connection, run_id, as_json=as_json)
        number = find_run(connection, found.id, stage=None).number
        histories = {metric.key: metric_history(connection, number, metric.key) for metric in found.metrics}
        files = _files(connection, store, found)
    if as_json:
        return _print_json({"run": found, "histories": histories, "artifacts": files})
    courses = {key: [point.value for point in points] for key, points in histories.items()}
    return _print_run(found, courses, files)


@app.command("compare")
def compare(
    context: typer.Context,
    run_ids: Annotated[list[str], typer.Argument(help="Ids of two or more runs.")],
    as_json: AsJson = False,
) -> None:
    """Put runs side by side: the params that differ, and metrics with the best one marked (*)."""
    store = open_store_with_spools(context)
    if len(run_ids) < 2:
        raise InvalidInput("One run cannot be compared.", hint="Name two or more.")
    with store.database.read() as connection:
        found = [_require(connection, id) for id in run_ids]
    if as_json:
        return _print_json({"params": differing_params(found), "metrics": metrics_side_by_side(found)})
    return _print_comparison(found)


@app.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="File to write.")],
    format: Annotated[str, typer.Option(help="csv, json (lines) or parquet; by default as the file's name ends.")] = "",
    experiment: Experiments = None,
    filter: Filter = "",
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50_000,
) -> None:
    """Write runs to a file, a row each: attributes, params.X, metrics.X, tags.X."""
    kind = (format or file.suffix.lstrip(".")).lower()
    if kind not in ("csv", "json", "parquet"):
        raise InvalidInput(f"{kind!r} is not a format.", hint="Use --format csv, json or parquet.")
    store = open_store_with_spools(context)
    with store.database.read() as connection:
        found = _search(connection, experiment or (), filter, (), limit)
    frame = to_frame(found)
    try:
        if kind == "csv":
            frame.write_csv(file)
        elif kind == "json":
            frame.write_ndjson(file)
        else:
            frame.write_parquet(file)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}.", hint="Choose another file.") from error
    typer.echo(f"{len(found):,} runs written to {file}")


def open_store_with_spools(context: typer.Context) -> Store:
    """Open the project's store, and take in what programs spooled while nobody had it open."""
    from mainspring.exchange import absorb_spools

    store = open_project(context)
    absorb_spools(store)
    return store


def find(connection: sa.Connection, run_id: str) -> Run | None:
    """Return the run whose id is or begins with ``run_id`` (four characters at least), or None."""
    from mainspring.tracking import get_run, search_experiments, search_runs

    try:
        return get_run(connection, run_id)
    except NotFound:
        if len(run_id) < 4 or not run_id.isalnum():
            return None
    ids = [found.id for found in search_experiments(connection, view="ALL", max_results=50_000).experiments]
    filter = f"attributes.run_id LIKE '{run_id}%'"
    runs = search_runs(connection, ids, filter=filter, view="ALL", max_results=2).runs
    if len(runs) > 1:
        raise InvalidInput(f"Several runs begin with {run_id}.", hint="Give more of the id.")
    return runs[0] if runs else None


def differing_params(runs: Sequence[Run]) -> dict[str, list[str | None]]:
    """Return the params that are not the same in all runs, with a value for each run."""
    params = [{param.key: param.value for param in run.params} for run in runs]
    rows = {key: [found.get(key) for found in params] for key in sorted({key for found in params for key in found})}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def metrics_side_by_side(runs: Sequence[Run]) -> dict[str, list[float | None]]:
    """Return the latest value of every metric in each run."""
    metrics = [{metric.key: metric.value for metric in run.metrics} for run in runs]
    return {key: [found.get(key) for found in metrics] for key in sorted({key for found in metrics for key in found})}


def best(key: str, values: Sequence[float | None]) -> int | None:
    """Return the position of the best value: the smallest if the name says that small is good; None if all are equal.

    >>> best("val_loss", [0.3, 0.2, None]), best("auc", [0.3, 0.2]), best("auc", [0.5, 0.5])
    (1, 0, None)
    """
    comparable = [value for value in values if value is not None and math.isfinite(value)]
    if len(set(comparable)) < 2:
        return None
    smaller = any(word in key.lower() for word in _SMALLER_IS_BETTER)
    return values.index(min(comparable) if smaller else max(comparable))


def to_frame(runs: Sequence[Run]) -> polars.DataFrame:
    """Return runs as a table."""
    import polars as pl

    rows = [
        {"run_id": run.id, "experiment_id": run.experiment_id, "name": run.name, "user": run.user}
        | {"status": run.status, "start_time": run.start_time, "end_time": run.end_time}
        | {f"params.{param.key}": param.value for param in run.params}
        | {f"metrics.{metric.key}": float(metric.value) for metric in run.metrics}
        | {f"tags.{key}": value for key, value in run.tags.items()}
        for run in runs
    ]
    names = list({name: None for row in rows for name in row})
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in names}, strict=False)


def _search(
    connection: sa.Connection, experiments: Sequence[str], filter: str, order_by: Sequence[str], limit: int
) -> list[Run]:
    from mainspring.tracking import get_experiment_by_name, search_experiments, search_runs

    if experiments:
        ids = [get_experiment_by_name(connection, name).id for name in experiments]
    else:
        ids = [found.id for found in search_experiments(connection, max_results=50_000).experiments]
    found: list[Run] = []
    token: str | None = None
    while len(found) < limit:
        page = search_runs(
            connection, ids, filter=filter, order_by=order_by, max_results=min(limit - len(found), 1000),
            page_token=token,
        )  # fmt: skip
        found += page.runs
        token = page.next_page_token
        if not token:
            break
    return found


def _require(connection: sa.Connection, run_id: str) -> Run:
    found = find(connection, run_id)
    if found is None:
        raise NotFound(f"There is no run {run_id}.", hint="See: mainspring runs list")
    return found


def _files(connection: sa.Connection, store: Store, run: Run) -> list[str]:
    from mainspring.tracking import list_folder, path_of_uri

    try:
        folder = path_of_uri(run.artifact_uri)
    except InvalidInput:  # they are in an object store
        return [run.artifact_uri]
    return [file.path + "/" * file.is_folder for file in list_folder(connection, store.blobs, folder)]


def _print_runs(runs: Sequence[Run]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso

    table = Table(box=None, pad_edge=False)
    table.add_column("run", no_wrap=True, min_width=8)
    for name in ("name", "state", "started", "params", "metrics"):
        table.add_column(name, overflow="fold")
    for run in runs:
        params = " ".join(f"{param.key}={param.value[:20]}" for param in run.params[:4])
        metrics = " ".join(f"{metric.key}={metric.value:.5g}" for metric in run.metrics[:4])
        state = f"{GLYPHS.get(run.status, '')} {run.status}"
        table.add_row(run.id[:8], run.name, state, to_iso(run.start_time), params, metrics)
    Console(markup=False, highlight=False).print(table)


def _print_run(run: Run, courses: dict[str, list[float]], files: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso

    console = Console(markup=False, highlight=False)
    ended = to_iso(run.end_time) if run.end_time else ""
    console.print(f"run {run.id}  {run.name}")
    console.print(f"{GLYPHS.get(run.status, '')} {run.status}  {to_iso(run.start_time)} – {ended}  {run.user}")
    table = Table("metric", "value", "course", "points", box=None, pad_edge=False)
    for metric in run.metrics:
        values = courses[metric.key]
        table.add_row(metric.key, f"{metric.value:.6g}", sparkline(values), f"{len(values):,}")
    console.print(table)
    for title, rows in (("param", {param.key: param.value for param in run.params}), ("tag", run.tags)):
        if rows:
            listed = Table(title, "value", box=None, pad_edge=False)
            for key, value in rows.items():
                listed.add_row(key, value[:200])
            console.print(listed)
    for path in files:
        console.print(f"artifact {path}", markup=False)


def _print_comparison(runs: Sequence[Run]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(run.id[:8] for run in runs), box=None, pad_edge=False)
    table.add_row("name", *(run.name for run in runs))
    for key, params in differing_params(runs).items():
        table.add_row(f"params.{key}", *("" if value is None else value[:40] for value in params))
    for key, metrics in metrics_side_by_side(runs).items():
        marked = best(key, metrics)
        cells = ["" if value is None else f"{value:.6g}{' *' * (n == marked)}" for n, value in enumerate(metrics)]
        table.add_row(f"metrics.{key}", *cells)
    Console(markup=False, highlight=False).print(table)


def _show_pipeline_run(store: Store, connection: sa.Connection, run_id: str, *, as_json: bool) -> None:
    from mainspring import pipelines

    try:
        run = pipelines.get_run(connection, run_id)
    except NotFound as error:
        raise NotFound(
            f"There is no run {run_id}.", hint="See: mainspring runs list, mainspring pipelines list"
        ) from error
    tasks = pipelines.list_tasks(connection, run_id)
    if as_json:
        return _print_json({"pipeline_run": run, "tasks": tasks})
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    console.print(f"pipeline run {run.id}  {run.pipeline}  {run.state}  {run.error}", markup=False)
    table = Table("task", "state", "took", "error", box=None, pad_edge=False)
    for task in tasks:
        took = "" if task.took_ms is None else f"{task.took_ms / 1000:.1f} s"
        table.add_row(task.address, task.state, took, task.error)
    return console.print(table)


def _print_json(value: object) -> None:
    """Print JSON; NaN and the infinities are null, as JSON has none."""
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())
