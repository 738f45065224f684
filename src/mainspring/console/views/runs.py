"""Pipeline runs: what ran, why, how long, and what came out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mainspring.automation import Trigger, list_triggers
from mainspring.console.dag import Node
from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import to
from mainspring.console.views.task_graph import draw_nodes, task_href
from mainspring.lineage import Event, Store, list_events
from mainspring.pipelines import ArtifactValue, PipelineRun, TaskRun, attempt_folder, get_run, list_runs, list_tasks

LIMIT = 200
LIVE = ("PENDING", "RUNNING", "REMOTE")
MOST_ROWS = 500
"""How many tasks and artifacts of a run are listed; said on the page."""
LOG_BYTES = 24_000
"""How much of the end of a log is shown; said on the page."""


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline run, how long it took, and the trigger that started it."""

    run: PipelineRun
    href: str
    duration_ms: int | None
    trigger: Trigger | None


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """The newest pipeline runs."""

    head: Head
    rows: list[RunRow]
    limit: int


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact a task produced."""

    task: str
    name: str
    artifact: ArtifactValue


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task and how long it took."""

    task: TaskRun
    href: str
    duration_ms: int | None


class TaskLog(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the log of one task; ``cut`` bytes before it are not shown."""

    task: TaskRun
    text: str
    cut: int


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """One pipeline run."""

    head: Head
    run: PipelineRun
    duration_ms: int | None
    trigger: Trigger | None
    nodes: list[Node]
    tasks: list[TaskRow]
    """At most `MOST_ROWS`, those that failed or run first."""
    task_count: int
    chosen: TaskLog | None
    outputs: list[Output]
    gates: list[Event]


def show_runs(store: Store) -> Runs:
    """Show the newest pipeline runs and why they ran."""
    with store.database.read() as connection:
        runs = list_runs(connection, LIMIT)
        triggers = {trigger.run_id: trigger for trigger in list_triggers(connection, limit=1000) if trigger.run_id}
    rows = [
        RunRow(run=run, href=to("runs", run.id), duration_ms=_duration(run), trigger=triggers.get(run.id))
        for run in runs
    ]
    head = head_of(
        store.clock,
        "Runs",
        "runs",
        command="mainspring pipelines list",
        python="with store.database.read() as connection: list_runs(connection)",
        live=any(run.state in LIVE for run in runs),
    )
    return Runs(head=head, rows=rows, limit=LIMIT)


def show_run(store: Store, id: str, *, task: str = "") -> RunPage:
    """Show one run with the log of ``task`` (by default one that failed, else the last that ran)."""
    with store.database.read() as connection:
        run = get_run(connection, id)
        tasks = list_tasks(connection, id)
        triggers = [trigger for trigger in list_triggers(connection, limit=1000) if trigger.run_id == id]
        gates = list_events(connection, types=("gate.",), limit=1000)
    chosen = _choose(tasks, task)
    return RunPage(
        head=head_of(
            store.clock,
            f"Run of {run.pipeline}",
            "runs",
            command=f"mainspring logs {id}" + (f" {chosen.address}" if chosen else ""),
            python=f"with store.database.read() as connection: get_run(connection, {id!r})",
            live=run.state in LIVE,
        ),
        run=run,
        duration_ms=_duration(run),
        trigger=triggers[0] if triggers else None,
        nodes=draw_nodes(id, tasks, chosen.address if chosen else ""),
        tasks=[
            TaskRow(task=found, href=task_href(id, found.address), duration_ms=_duration(found))
            for found in _most_telling(tasks)
        ],
        task_count=len(tasks),
        chosen=_read_log(store, chosen) if chosen else None,
        outputs=[
            Output(task=found.name, name=name, artifact=artifact)
            for found in tasks
            for name, artifact in found.outputs.artifacts.items()
        ][:MOST_ROWS],
        gates=[gate for gate in gates if run.started_at and run.started_at <= gate.time <= (run.ended_at or gate.time)],
    )


def _most_telling(tasks: Sequence[TaskRun]) -> Sequence[TaskRun]:
    """Return all tasks, or of very many those that failed or run and then the first ones, in their order."""
    if len(tasks) <= MOST_ROWS:
        return tasks
    quiet = ("COMPLETE", "CACHED", "SKIPPED", "PENDING")
    ranked = sorted(range(len(tasks)), key=lambda place: tasks[place].state in quiet)
    return [tasks[place] for place in sorted(ranked[:MOST_ROWS])]


def _choose(tasks: Sequence[TaskRun], wanted: str) -> TaskRun | None:
    for task in tasks:
        if task.address == wanted:
            return task
    failed = [task for task in tasks if task.state == "FAILED"]
    ran = [task for task in tasks if task.started_at is not None]
    return next(iter(failed), None) or max(ran, key=lambda task: task.started_at or 0, default=None)


def _duration(thing: PipelineRun | TaskRun) -> int | None:
    return thing.took_ms


def _read_log(store: Store, task: TaskRun) -> TaskLog:
    path: Path = attempt_folder(store.settings.home / "work", task).log
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - LOG_BYTES))
            text = file.read(LOG_BYTES).decode(errors="replace")
    except OSError:
        return TaskLog(task=task, text="", cut=0)
    return TaskLog(task=task, text=text, cut=max(0, length - LOG_BYTES))
