"""``mainspring schedules``: when pipelines run by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mainspring.cli.project import open_existing
from mainspring.core import to_iso

if TYPE_CHECKING:
    from mainspring.automation.schedule_store import StoredSchedule

app = typer.Typer(help="When pipelines run by themselves.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name or id of the schedule.")]


@app.command("list")
def list_(context: typer.Context) -> None:
    """Print all schedules and when each is due next."""
    from rich.console import Console
    from rich.table import Table

    from mainspring.automation.recurring import keep_project_schedules
    from mainspring.automation.schedule_store import list_schedules

    store = open_existing(context)
    keep_project_schedules(store)
    with store.database.read() as connection:
        found = list_schedules(connection)
    if not found:
        typer.echo("There are no schedules. Write them in mainspring.yaml under schedules:, or use kfp.Client.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("name", "pipeline", "when", "state", "next", "id"):
        table.add_column(name, overflow="fold")
    for item in found:
        table.add_row(item.name, item.pipeline, describe(item), item.state.lower(), _moment(item.next_due), item.id)
    Console().print(table, markup=False)


@app.command("show")
def show(context: typer.Context, name: Name) -> None:
    """Print a schedule, its next times and its last ones."""
    from mainspring.automation.schedule_store import get_schedule, list_firings
    from mainspring.automation.schedules import next_due

    store = open_existing(context)
    with store.database.read() as connection:
        found = get_schedule(connection, name)
        past = list_firings(connection, schedule_id=found.id, limit=10)
    typer.echo(f"{found.name}: {found.pipeline}, {describe(found)}, {found.state.lower()}  ({found.id})")
    at = found.next_due
    for _ in range(3):
        if at is None:
            break
        typer.echo(f"  next  {to_iso(at)}")
        at = next_due(found.timing, at)
    for firing in past:
        typer.echo(f"  last  {to_iso(firing.due_at)}  run {firing.run_id or '-'}")


@app.command("pause")
def pause(context: typer.Context, name: Name) -> None:
    """Start no more runs of a schedule until it is resumed."""
    _set(context, name, paused=True)


@app.command("resume")
def resume(context: typer.Context, name: Name) -> None:
    """Let a schedule go on; what it missed meanwhile is made up for only if it catches up."""
    _set(context, name, paused=False)


def describe(found: StoredSchedule) -> str:
    """Say in a few words when a schedule is due."""
    timing = found.timing
    return f"{timing.cron} {timing.time_zone}" if timing.cron else f"every {timing.interval_s} s"


def _set(context: typer.Context, name: str, *, paused: bool) -> None:
    from mainspring.automation.recurring import keep_project_schedules
    from mainspring.automation.schedule_store import set_state

    store = open_existing(context)
    keep_project_schedules(store)
    with store.database.write() as connection:
        found = set_state(connection, store.clock, name, "PAUSED" if paused else "ENABLED")
    upcoming = f"; next {_moment(found.next_due)}" if found.next_due is not None else ""
    typer.echo(f"{found.name} is {found.state.lower()}{upcoming}")


def _moment(ms: int | None) -> str:
    return "-" if ms is None else to_iso(ms)
