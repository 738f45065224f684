"""How the tasks of one run stand, as far as the engine that executes it has to remember: those that have not ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from mainspring.pipelines.plan import Place
from mainspring.pipelines.records import OPENED, TaskRun
from mainspring.pipelines.schedule import ENDED, Changes, Recorded


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A task changed its state; ``finished`` of ``total`` tasks are done."""

    run_id: str
    address: str
    name: str
    state: str
    error: str
    finished: int
    total: int
    attempt: int = 0


class Board:
    """The tasks of a run: rows that have not ended, and counts of all."""

    def __init__(self, rows: Iterable[TaskRun]) -> None:
        """Start from all rows of the run, opened loops included."""
        rows = list(rows)
        self._known = {task.address for task in rows}
        self._positions = {task.address: task.position for task in rows if task.kind == "loop"}
        self._tasks = {task.address: task for task in rows if task.state not in (*ENDED, "SKIPPED", OPENED)}
        self._left_out = {task.address for task in rows if task.state == "SKIPPED"}
        self._total = sum(task.state != OPENED for task in rows)
        self._finished = self._total - len(self._tasks)

    def __contains__(self, address: str) -> bool:
        return address in self._tasks

    def __getitem__(self, address: str) -> TaskRun:
        return self._tasks[address]

    def bring_back(self, task: TaskRun) -> None:
        """Count a task as not done again: it ran with other inputs before its run was retried."""
        self._tasks[task.address] = task
        self._finished -= 1

    def unended(self, reasons: Mapping[str, str]) -> list[tuple[TaskRun, str]]:
        """Return the tasks that have not ended yet, each with its reason: after a restart some have."""
        return [(self._tasks[address], reason) for address, reason in reasons.items() if address in self._tasks]

    def unknown_loops(self, changes: Changes) -> list[tuple[str, int, tuple[Place, ...]]]:
        """Return the iterations that have no rows yet: their loop's address and position, and what they hold."""
        placed = []
        for loop, places in changes.opened:
            if places and places[0].address not in self._known:
                position = self._positions[loop]
                self._positions |= {place.address: position for place in places if place.task.loop is not None}
                placed.append((loop, position, places))
        return placed

    def has_new_loops(self, changes: Changes) -> bool:
        """Say whether an iteration has no rows yet."""
        return any(places and places[0].address not in self._known for _, places in changes.opened)

    def unrecorded_skips(self, changes: Changes) -> dict[str, str]:
        """Return the tasks that will never run and whose rows do not say so yet, and why."""
        return {address: reason for address, reason in changes.skipped.items() if address not in self._left_out}

    def open(self, loops: Iterable[str], rows: Iterable[TaskRun]) -> None:
        """Add the tasks of iterations that begin; their loops have no row of their own any more."""
        for row in rows:
            self._tasks[row.address] = row
            self._total += 1
        for loop in loops:
            self._total -= self._tasks.pop(loop, None) is not None

    def note(self, task: TaskRun) -> Recorded | None:
        """Take note of how a task stands; return how it ended, if it did."""
        if task.state not in (*ENDED, "SKIPPED"):
            self._tasks[task.address] = task
            return None
        self._tasks.pop(task.address, None)
        self._finished += 1
        return Recorded(state=task.state, outputs=task.outputs, error=task.error)

    def progress(self, task: TaskRun) -> TaskProgress:
        """Return what somebody who watches is told about a task."""
        return TaskProgress(
            run_id=task.run_id,
            address=task.address,
            name=task.name,
            state=task.state,
            error=task.error,
            finished=self._finished,
            total=self._total,
            attempt=task.attempt,
        )


def ends_of(rows: Iterable[TaskRun]) -> dict[str, Recorded]:
    """Return how the tasks that have ended did, by address."""
    return {
        task.address: Recorded(state=task.state, outputs=task.outputs, error=task.error, inputs=task.inputs)
        for task in rows
        if task.state in ENDED and task.kind != "loop"
    }
