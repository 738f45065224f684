"""``mainspring events``: the journal of the loop."""

from __future__ import annotations

from typing import Annotated

import typer

from mainspring.cli.project import open_existing


def list_(
    context: typer.Context,
    type: Annotated[list[str] | None, typer.Option("--type", help="Only types that start with this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest last.")] = 50,
) -> None:
    """Print what happened, when, to what, and because of which event."""
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso
    from mainspring.lineage import list_events

    store = open_existing(context)
    with store.database.read() as connection:
        events = list_events(connection, types=tuple(type or ()), limit=limit, newest_first=True)
    if not events:
        typer.echo("No events yet. Start the loop with: mainspring up")
        return
    table = Table("time", "type", "subject", "what", "id", "cause", box=None, pad_edge=False)
    for event in reversed(events):
        what = str(event.data.get("reason") or "")
        table.add_row(to_iso(event.time), event.type, event.subject, what, event.id, event.cause or "")
    Console().print(table)
