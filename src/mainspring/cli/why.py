"""``mainspring why``: the chain behind one prediction, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mainspring.cli.project import open_existing
from mainspring.core import Corrupt

if TYPE_CHECKING:
    from rich.tree import Tree

    from mainspring.governance import Finding


def why(
    context: typer.Context,
    prediction_id: Annotated[str, typer.Argument(help="REQUEST:ROW, or REQUEST for a whole request.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a tree.")] = False,
) -> None:
    """Show what is behind a prediction, and hash every artifact on the way again."""
    import msgspec
    from rich.console import Console

    from mainspring.governance import explain_prediction

    finding = explain_prediction(open_existing(context), prediction_id)
    checked = [found for found in finding.walk() if found.verified is not None]
    broken = [found for found in checked if not found.verified]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(finding)).decode())
    else:
        console = Console()
        console.print(_tree(finding))
        console.print(f"{len(checked)} digests hashed again, {len(broken)} do not match.", highlight=False)
    if broken:
        raise Corrupt(
            f"{len(broken)} artifacts are not what was recorded: {', '.join(found.detail for found in broken)}.",
            hint="Restore them from a backup; what depends on them cannot be trusted.",
        )


def _tree(finding: Finding, parent: Tree | None = None) -> Tree:
    from rich.text import Text
    from rich.tree import Tree as RichTree

    mark = {True: " ✓", False: " ✗ does not match", None: ""}[finding.verified]
    text = Text.assemble((f"{finding.label}  ", "bold"), finding.value)
    if finding.detail:
        text.append(f"  {finding.detail}", style="dim")
    text.append(mark, style="green" if finding.verified else "red bold")
    tree = RichTree(text) if parent is None else parent.add(text)
    for child in finding.children:
        _tree(child, tree)
    return tree
