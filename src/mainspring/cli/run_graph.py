"""``mainspring graph`` and ``mainspring pipelines``: the tasks of a run as a tree, and why each ran or did not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mainspring.cli.project import open_project
from mainspring.cli.run_view import GLYPHS, print_document, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.tree import Tree

    from mainspring.pipelines import PipelineRun, TaskRun

app = typer.Typer(help="Pipeline runs: list them, and ask why a task ran again.", no_args_is_help=True)

_SHOWN_ITERATIONS = 8


def graph(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Id of the run.")],
    why: Annotated[bool, typer.Option("--why", help="Also say what was decided about earlier results.")] = False,
) -> None:
    """Draw the tasks of a run: what waits for what, how each stands, how long it took."""
    from rich.console import Console

    from mainspring.pipelines import get_run, list_tasks

    store = open_project(context)
    with store.database.session() as session:
        found, tasks = get_run(session, run_id), list_tasks(session, run_id)
    width = None if sys.stdout.isatty() else 1000
    Console(highlight=False, markup=False, width=width).print(draw(found, tasks, why=why))


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the latest pipeline runs."""
    from rich.console import Console
    from rich.table import Table

    from mainspring.core import to_iso
    from mainspring.pipelines import list_runs

    store = open_project(context)
    with store.database.session() as session:
        runs = list_runs(session, limit)
    if as_json:
        print_document([summary(found) for found in runs])
        return
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


@app.command("explain")
def explain(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Id of the run.")],
    task: Annotated[str, typer.Argument(help="Name or address of the task.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say why a task ran again, or why an earlier result stood in for it."""
    from mainspring.pipelines import explain_task

    store = open_project(context)
    with store.database.session() as session:
        found = explain_task(session, store.blobs, run_id, task)
    if as_json:
        print_document(found)
        return
    typer.echo(f"{found.address}  {found.state}")
    typer.echo(f"  {found.decision}")
    if found.compared_with:
        typer.echo(f"  compared with run {found.compared_with}, where it last ended well:")
        for line in found.differences or ("nothing differs",):
            typer.echo(f"    {line}")
    else:
        typer.echo("  it has not ended well in an earlier run of this pipeline")


def draw(run: PipelineRun, tasks: Sequence[TaskRun], *, why: bool = False) -> Tree:
    """Draw a run as a tree of its groups and tasks; long loops are summed up."""
    from rich.tree import Tree

    took = "" if run.took_ms is None else f"  {_duration(run.took_ms)}"
    root = Tree(f"{GLYPHS.get(run.state, '')} {run.pipeline}  {run.state.lower()}{took}  {run.id}")
    _grow(root, _nested(tasks), why=why)
    return root


def _nested(tasks: Sequence[TaskRun]) -> dict[str, Any]:
    """Turn addresses into nested dictionaries with tasks as leaves."""
    root: dict[str, Any] = {}
    for task in tasks:
        group = root
        *path, name = task.address.split("/")
        for part in path:
            group = group.setdefault(part, {})
        group[name] = task
    return root


def _grow(tree: Tree, group: dict[str, Any], *, why: bool) -> None:
    names = sorted(group, key=int) if all(name.isdigit() for name in group) else list(group)
    is_loop = len(names) > _SHOWN_ITERATIONS and names[0].isdigit()
    for name in names[:_SHOWN_ITERATIONS] if is_loop else names:
        item = group[name]
        if isinstance(item, dict):
            _grow(tree.add(f"{_sum_up(item)} {name}"), item, why=why)
        else:
            tree.add(_label(item, name, why=why))
    if is_loop:
        rest = {name: group[name] for name in names[_SHOWN_ITERATIONS:]}
        tree.add(f"{_sum_up(rest)} and {len(rest)} more iterations")


def _label(task: TaskRun, name: str, *, why: bool) -> str:
    text = f"{GLYPHS.get(task.state, ' ')} {name}  {task.state.lower()}"
    if task.took_ms is not None:
        text += f"  {_duration(task.took_ms)}"
    if task.upstream:
        text += f"  ← {', '.join(address.rsplit('/', 1)[-1] for address in task.upstream)}"
    if task.error:
        text += f"  {task.error.splitlines()[0]}"
    return f"{text}  [{task.cache}]" if why and task.cache else text


def _sum_up(group: dict[str, Any]) -> str:
    """Return the glyph of a group: of the worst that happened in it."""
    states = {task.state for task in _tasks_in(group)}
    order = ("FAILED", "CANCELED", "RUNNING", "OFFERED", "PENDING", "COMPLETE", "CACHED", "SKIPPED")
    return GLYPHS[next((state for state in order if state in states), "PENDING")]


def _tasks_in(group: dict[str, Any]) -> list[TaskRun]:
    return [task for item in group.values() for task in (_tasks_in(item) if isinstance(item, dict) else [item])]


def _duration(ms: int) -> str:
    return f"{ms} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"
