"""``mainspring data``: datasets and their snapshots."""

from __future__ import annotations

import typer

from mainspring.cli.project import open_existing, open_project

app = typer.Typer(help="Datasets and their snapshots.", no_args_is_help=True, rich_markup_mode=None)


@app.command("snapshot")
def snapshot(context: typer.Context) -> None:
    """Take every file that has arrived into a new snapshot of its dataset."""
    from mainspring.automation.arrivals import take_arrivals

    store = open_project(context)
    taken = take_arrivals(store)
    for found in taken:
        typer.echo(f"{found.dataset}  {found.rows:,} rows in {found.parts} parts  {found.id}")
    if not taken:
        typer.echo("Nothing new has arrived.")


@app.command("list")
def list_(context: typer.Context) -> None:
    """Print all snapshots, newest first."""
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso
    from mainspring.datasets import list_snapshots

    store = open_existing(context)
    with store.database.read() as connection:
        snapshots = list_snapshots(connection)
    if not snapshots:
        typer.echo("No snapshots yet. Put files where datasets.NAME.files points, then: mainspring data snapshot")
        return
    table = Table("dataset", "created", "rows", "parts", "snapshot", box=None, pad_edge=False)
    for found in snapshots:
        table.add_row(found.dataset, to_iso(found.created_at), f"{found.rows:,}", str(found.parts), found.id)
    Console().print(table)
