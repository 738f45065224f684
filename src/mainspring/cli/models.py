"""``mainspring models``: what is registered, what is in production, and how it came to be."""

from __future__ import annotations

from typing import Annotated

import typer

from mainspring.cli.project import open_project

app = typer.Typer(
    help="Registered models, their versions, and the history of their aliases.", invoke_without_command=True
)
NOTHING = "No model is registered yet. A pipeline that passes its gate registers one: mainspring run PIPELINE"


@app.callback()
def list_(context: typer.Context) -> None:
    """Print every model version with its aliases, hold-out loss and the gate's verdict."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso
    from mainspring.registry import list_models, list_versions

    store = open_project(context)
    with store.database.read() as connection:
        versions = [found for model in list_models(connection) for found in list_versions(connection, model.name)]
    if not versions:
        typer.echo(NOTHING)
        return
    table = Table(
        "model", "version", "aliases", "registered", "hold-out", "verdict", "warning", box=None, pad_edge=False
    )
    for found in versions:
        aliases = " ".join(f"@{alias}" for alias in found.aliases)
        loss = found.tags.get("holdout_log_loss", "")
        registered, verdict = to_iso(found.created_at), found.tags.get("verdict", "")
        warning = "runs code when loaded" if found.warning else ""
        table.add_row(found.name, found.version, aliases, registered, loss[:6], verdict, warning)
    Console().print(table)
    for found in versions:
        if found.warning:
            typer.echo(f"warning: {found.name}/{found.version}: {found.warning}", err=True)


@app.command("history")
def history(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the registered model.")],
    alias: Annotated[str | None, typer.Option(help="Only the moves of this alias.")] = None,
) -> None:
    """Print who moved which alias of a model from which version to which, when and why; newest first."""
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso
    from mainspring.registry import alias_history, get_model

    store = open_project(context)
    with store.database.read() as connection:
        moves = alias_history(connection, name, alias=alias)
        if not moves:
            get_model(connection, name)
    if not moves:
        typer.echo(f"No alias of {name} was ever set. Set one: MlflowClient().set_registered_model_alias(…)")
        return
    table = Table("when", "alias", "from", "to", "who", "why", box=None, pad_edge=False)
    for move in moves:
        shown = move.from_version or "-", move.to_version or "-"
        table.add_row(to_iso(move.moved_at), f"@{move.alias}", *shown, move.actor, move.reason)
    Console().print(table)
