"""``mainspring export``, ``import``, ``export-mlflow``, ``import-mlflow`` and ``client flush``: stores in and out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from mainspring.cli.project import open_project, options_of

if TYPE_CHECKING:
    from rich.progress import TaskID

    from mainspring.exchange import BadRow, Progress

client = typer.Typer(help="What programs logged with mainspring.client.", no_args_is_help=True, rich_markup_mode=None)
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
_SHOWN = 20


def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="New folder to write to.")],
    as_json: AsJson = False,
) -> None:
    """Export the whole store to a folder: tables, blobs and prediction logs, with digests."""
    from mainspring.exchange import export_store

    store = open_project(context)
    with show_progress() as progress:
        report = export_store(store, folder, progress=progress)
    if as_json:
        return _print_json(report)
    typer.echo(f"{report.rows:,} rows, {report.blobs:,} blobs ({report.bytes:,} bytes), {report.files:,} files")
    typer.echo(f"manifest {report.digest}")
    return None


def import_(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder that `mainspring export` wrote.")],
    digest: Annotated[str, typer.Option(help="Digest the manifest must have, as `mainspring export` printed it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Import an exported folder into an empty store, after verifying all of it."""
    from mainspring.exchange import import_store

    store = open_project(context)
    with show_progress() as progress:
        report = import_store(store, folder, digest=digest, progress=progress)
    if as_json:
        return _print_json(report)
    typer.echo(f"{report.rows:,} rows, {report.blobs:,} blobs, {report.files:,} files are new")
    return None


def import_mlflow(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(help="MLflow's store: sqlite:///mlflow.db, postgresql://… or a folder mlruns.")],
    artifacts: Annotated[
        Path | None, typer.Option(help="The server's --artifacts-destination, or the folder artifacts lie below.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take over an MLflow store: runs, metrics, models, versions, aliases, artifacts; can be repeated."""
    from mainspring import exchange

    store = open_project(context)
    with show_progress() as progress:
        report = exchange.import_mlflow(store, uri, artifacts=artifacts, progress=progress)
    if as_json:
        return _print_json(report)
    for kind in sorted({*report.new, *report.present}):
        typer.echo(f"{kind:18} {report.new.get(kind, 0):>9,} new {report.present.get(kind, 0):>9,} present")
    for location in report.kept_elsewhere[:_SHOWN]:
        typer.echo(f"artifacts stay at {location}")
    _print_bad(report.bad)
    return None


def export_mlflow(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="MLflow's database: sqlite:///… or postgresql://…, with its tables.")],
    artifacts: Annotated[Path, typer.Option(help="Folder for artifacts: the server's --artifacts-destination.")],
    as_json: AsJson = False,
) -> None:
    """Write everything into MLflow's own database and a folder, for an unmodified `mlflow server` to serve."""
    from mainspring import exchange

    store = open_project(context)
    with show_progress() as progress:
        report = exchange.export_mlflow(store, url, artifacts, progress=progress)
    if as_json:
        return _print_json(report)
    for table, rows in report.rows.items():
        typer.echo(f"{table:26} {rows:>9,} rows")
    typer.echo(f"{'files':26} {report.files:>9,}")
    typer.echo(f"Serve it: mlflow server --backend-store-uri {url} --artifacts-destination {artifacts}")
    _print_bad(report.bad)
    return None


@client.command("flush")
def flush(
    context: typer.Context,
    url: Annotated[str, typer.Option(help="Send to this server instead of into the project's store.")] = "",
    as_json: AsJson = False,
) -> None:
    """Send what programs spooled without a server, or left behind when they were killed."""
    from mainspring.client import ship_to_server
    from mainspring.exchange import absorb_spools

    settings, _ = options_of(context).load()
    if url:
        report = ship_to_server(settings.home / "spool", url.rstrip("/"), token=settings.values.token)
    else:
        report = absorb_spools(open_project(context))
    if as_json:
        return typer.echo(
            msgspec.json.encode(
                {name: getattr(report, name) for name in ("spools", "records", "refused", "waiting")}
            ).decode()
        )
    typer.echo(f"{report.spools} runs with {report.records:,} records sent, {report.refused} refused")
    if report.waiting:
        typer.echo(f"{report.waiting} spools wait: their program still runs, or they belong to a server (--url)")
    return None


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show a bar per kind of thing on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:>18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(kind: str, done: int, total: int) -> None:
            if kind not in tasks:
                tasks[kind] = bars.add_task(kind, total=total)
            bars.update(tasks[kind], completed=done, total=total)

        yield show


def _print_json(report: msgspec.Struct) -> None:
    typer.echo(msgspec.json.encode(report).decode())


def _print_bad(bad: list[BadRow]) -> None:
    for row in bad[:_SHOWN]:
        typer.echo(f"skipped {row.kind} {row.id}: {row.reason}", err=True)
    if bad:
        typer.echo(f"{len(bad):,} skipped{' (the first are named above)' if len(bad) > _SHOWN else ''}", err=True)
