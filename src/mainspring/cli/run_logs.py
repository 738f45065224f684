"""``mainspring logs``: what tasks printed, once or as it comes."""

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

import typer

from mainspring.core import NotFound

if TYPE_CHECKING:
    from mainspring.lineage import Store
    from mainspring.pipelines import TaskRun

_PAUSE = 0.2


def print_logs(store: Store, run_id: str, task: str | None, *, follow: bool) -> None:
    """Print the logs of one task or of all; with ``follow`` until the run has ended."""
    places: dict[Path, int] = {}
    printed = False
    while True:
        tasks, ended = _look(store, run_id, task)
        for found in tasks:
            printed = _print_new(store, found, places, prefix=task is None) or printed
        if ended or not follow:
            break
        sleep(_PAUSE)
    if not printed and task is not None:
        raise NotFound(f"There is no log of the task {task!r} of run {run_id}.", hint=f"It is {tasks[0].state}.")


def _look(store: Store, run_id: str, task: str | None) -> tuple[list[TaskRun], bool]:
    from mainspring.pipelines import get_run, get_task, list_tasks

    with store.database.session() as session:
        run = get_run(session, run_id)
        tasks = list_tasks(session, run_id) if task is None else [get_task(session, run_id, task)]
    ended = run.state not in ("PENDING", "RUNNING")
    return tasks, ended or (task is not None and tasks[0].ended_at is not None)


def _print_new(store: Store, task: TaskRun, places: dict[Path, int], *, prefix: bool) -> bool:
    """Print what a task's log holds beyond what was printed; whole lines, when others print too."""
    from mainspring.pipelines import attempt_folder

    path = attempt_folder(store.settings.home / "work", task).log
    try:
        with path.open("rb") as file:
            file.seek(places.get(path, 0))
            data = file.read()
    except OSError:
        return False
    if prefix and task.ended_at is None:
        data = data[: data.rfind(b"\n") + 1]
    places[path] = places.get(path, 0) + len(data)
    text = data.decode(errors="replace")
    if prefix:
        text = "".join(f"{task.address} | {line}\n" for line in text.splitlines())
    typer.echo(text, nl=False)
    return True
