"""How a pipeline run looks on a terminal: live when somebody watches, plain lines or JSON when a program does."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

from mainspring.core import Foreign, Json

if TYPE_CHECKING:
    from mainspring.core import MainspringError
    from mainspring.lineage import Store
    from mainspring.pipelines import Forecast, PipelineRun, TaskProgress

GLYPHS = {
    "COMPLETE": "✓",
    "CACHED": "↺",
    "FAILED": "✗",
    "SKIPPED": "-",
    "RUNNING": "…",
    "CANCELED": "✗",
    "PENDING": "·",
    "OFFERED": "·",
}
STATES = {"COMPLETE": "SUCCEEDED", "CACHED": "SUCCEEDED", "CANCELED": "CANCELLED"}
"""KFP's words for how something ended, where they are not ours."""
_SHOWN_RUNNING = 12


class View(Protocol):
    """Is told what happens."""

    def show(self, progress: TaskProgress) -> None:
        """Show that a task changed its state."""
        ...


class PlainView:
    """One line per change."""

    def __init__(self, *, to_stderr: bool = False, with_run: bool = False) -> None:
        self._to_stderr = to_stderr
        self._with_run = with_run

    def show(self, progress: TaskProgress) -> None:
        """Print the change."""
        run = f"{progress.run_id} " if self._with_run else ""
        line = f"  {GLYPHS.get(progress.state, ' ')} {run}{progress.address}  {progress.state.lower()}"
        if progress.error and progress.state in ("FAILED", "PENDING"):
            line += f": {progress.error.splitlines()[0]}"
        typer.echo(line, err=self._to_stderr)


class LiveView:
    """A bar for the run and a line per task that runs; what has failed stays on the screen."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, TimeElapsedColumn())
        self._whole = self._progress.add_task("tasks", total=None)
        self._lines: dict[str, Any] = {}

    def __enter__(self) -> LiveView:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: TaskProgress) -> None:
        """Move the bars."""
        self._progress.update(self._whole, completed=progress.finished, total=progress.total)
        if progress.state == "RUNNING":
            if len(self._lines) < _SHOWN_RUNNING:
                again = f" (attempt {progress.attempt})" if progress.attempt > 1 else ""
                self._lines[progress.address] = self._progress.add_task(f"  … {progress.address}{again}", total=1)
            return
        line = self._lines.pop(progress.address, None)
        if line is not None:
            self._progress.remove_task(line)
        if progress.state != "PENDING" or progress.error:
            first = progress.error.splitlines()[0] if progress.error else ""
            text = f"  {GLYPHS.get(progress.state, ' ')} {progress.address}  {progress.state.lower()}"
            self._progress.console.print(f"{text}: {first}" if first else text, highlight=False, markup=False)


@contextmanager
def open_view(*, to_stderr: bool) -> Iterator[View]:
    """Open the view that fits where the output goes."""
    if to_stderr or not sys.stdout.isatty():
        yield PlainView(to_stderr=to_stderr)
        return
    with LiveView() as view:
        yield view


def summary(run: PipelineRun) -> dict[str, Any]:
    """Return what a list of runs says of one; times are milliseconds UTC."""
    return {
        "run_id": run.id,
        "pipeline": run.pipeline,
        "state": STATES.get(run.state, run.state),
        "error": run.error,
        "actor": run.actor,
        "created": run.created_at,
        "started": run.started_at,
        "ended": run.ended_at,
    }


def run_document(store: Store, run: PipelineRun) -> dict[str, Any]:
    """Return a run as the document that programs read."""
    from mainspring.pipelines import list_tasks

    with store.database.session() as session:
        tasks = list_tasks(session, run.id)
    outputs: dict[str, Any] = dict(run.outputs.parameters)
    outputs |= {name: _artifact(value) for name, value in run.outputs.artifacts.items()}
    outputs |= {name: [_artifact(value) for value in values] for name, values in run.outputs.lists.items()}
    return {
        "run_id": run.id,
        "state": STATES.get(run.state, run.state),
        "error": run.error,
        "outputs": outputs,
        "warnings": list(run.warnings),
        "tasks": [
            {
                "name": task.name,
                "address": task.address,
                "state": STATES.get(task.state, task.state),
                "cached": task.state == "CACHED",
                "started": task.started_at,
                "ended": task.ended_at,
                "attempts": task.attempt,
                "error": task.error,
            }
            for task in tasks
        ],
    }


def print_refusal(error: MainspringError) -> dict[str, Any]:
    """Return the document of a run that was refused before it began."""
    return {"run_id": "", "state": "FAILED", "error": str(error), "outputs": {}, "warnings": [], "tasks": []}


def print_document(document: Json) -> None:
    """Print one JSON document on the standard output."""
    import msgspec

    typer.echo(msgspec.json.encode(document).decode())


def print_forecast(found: Sequence[Forecast], as_json: bool) -> None:
    """Print what a run would do."""
    if as_json:
        print_document(found)
        return
    glyphs = {"cached": "↺", "runs": "▸", "waits": "?", "skipped": "-", "fails": "✗"}
    for item in found:
        typer.echo(f"  {glyphs[item.verdict]} {item.address}  {item.verdict}: {item.reason}")
    counts = {verdict: sum(item.verdict == verdict for item in found) for verdict in glyphs}
    typer.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) + "; nothing was started")


def _artifact(value: Foreign) -> dict[str, Any]:  # an ArtifactValue, which is imported late
    return {
        "name": value.name,
        "type": value.type,
        "uri": value.uri,
        "digest": value.digest,
        "metadata": value.metadata,
    }
