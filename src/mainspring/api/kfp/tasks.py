"""The tasks of a run as the API writes them, and the states of runs and tasks in its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mainspring.api.kfp.wire import moment, without_empty
from mainspring.pipelines import TaskRun, Values

STATES: Mapping[str, str] = {
    "PENDING": "PENDING",
    "OFFERED": "PENDING",
    "RUNNING": "RUNNING",
    "REMOTE": "RUNNING",
    "COMPLETE": "SUCCEEDED",
    "CACHED": "SKIPPED",
    "SKIPPED": "SKIPPED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELED",
}
"""By our states; SKIPPED is the API's word for a result that was there already, too."""
_INTERNAL = 13


def show_tasks(tasks: Sequence[TaskRun]) -> list[dict[str, Any]]:
    """Return the details of a run's tasks."""
    return [_show(task) for task in tasks]


def status_of(message: str) -> dict[str, Any] | None:
    """Return a message of an error as the API writes it; None when there is none."""
    return {"code": _INTERNAL, "message": message} if message else None


def history(*moments: tuple[int | None, str], error: str = "") -> list[dict[str, Any]]:
    """Return the states something was in with their times, those that came; the last has the error."""
    found: list[dict[str, Any]] = [
        {"update_time": moment(at), "state": state} for at, state in moments if at is not None
    ]
    if found and error:
        found[-1]["error"] = status_of(error)
    return found


def _show(task: TaskRun) -> dict[str, Any]:
    state = STATES.get(task.state, "RUNNING")
    error = task.error if state != "SKIPPED" else ""
    return without_empty(
        {
            "run_id": task.run_id,
            "task_id": f"{task.run_id}/{task.address}",
            "display_name": task.name,
            "create_time": moment(task.started_at),
            "start_time": moment(task.started_at),
            "end_time": moment(task.ended_at),
            "state": state,
            "execution_id": task.execution_id,
            "error": status_of(error),
            "inputs": _artifact_ids(task.inputs),
            "outputs": _artifact_ids(task.outputs),
            "state_history": history((task.started_at, "RUNNING"), (task.ended_at, state), error=error),
        }
    )


def _artifact_ids(values: Values) -> dict[str, Any]:
    """Return the ids of artifacts by the names of the inputs or outputs they are."""
    single = {name: {"artifact_ids": [found.id]} for name, found in values.artifacts.items() if found.id}
    lists = {name: {"artifact_ids": [item.id for item in found]} for name, found in values.lists.items() if found}
    return {**single, **lists}
