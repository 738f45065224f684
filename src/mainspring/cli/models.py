"""``mainspring models``: what is registered and what is in production."""

from __future__ import annotations

import typer

from mainspring.cli.project import open_project


def list_(context: typer.Context) -> None:
    """Print every model version with its aliases, hold-out loss and the gate's verdict."""
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso
    from mainspring.registry import list_models, list_versions

    store = open_project(context)
    with store.database.read() as connection:
        versions = [found for model in list_models(connection) for found in list_versions(connection, model.name)]
    if not versions:
        typer.echo("No model is registered yet. A pipeline that passes its gate registers one: mainspring run PIPELINE")
        return
    table = Table("model", "version", "aliases", "registered", "hold-out", "verdict", box=None, pad_edge=False)
    for found in versions:
        aliases = " ".join(f"@{alias}" for alias in found.aliases)
        loss = found.tags.get("holdout_log_loss", "")
        table.add_row(
            found.name, found.version, aliases, to_iso(found.created_at), loss[:6], found.tags.get("verdict", "")
        )
    Console().print(table)
