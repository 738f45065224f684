"""The tasks that could start: they wait for a place, or for the moment of their next attempt."""

from __future__ import annotations

import math

import msgspec

from mainspring.core import MainspringError
from mainspring.pipelines.component import read_resources
from mainspring.pipelines.placeholders import Lookup, fill_placeholders
from mainspring.pipelines.plan import Importer
from mainspring.pipelines.schedule import ReadyTask


class WaitingTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that could start, and what was decided about using an earlier result for it."""

    ready: ReadyTask
    key: str = ""
    reason: str = ""

    @property
    def address(self) -> str:
        """Where the task is in its pipeline."""
        return self.ready.address

    @property
    def is_import(self) -> bool:
        """Whether the engine itself does it."""
        return isinstance(self.ready.task.body, Importer)


class WaitingTasks:
    """The waiting tasks of one run, in the order in which they came."""

    def __init__(self) -> None:
        self._tasks: dict[str, WaitingTask] = {}
        self._not_before: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, task: WaitingTask) -> None:
        """Let a task wait."""
        self._tasks[task.address] = task

    def postpone(self, address: str, moment: float) -> None:
        """Let a task, which waits now or soon, not start before a moment (of `time.perf_counter`)."""
        self._not_before[address] = moment

    def remove(self, address: str) -> None:
        """Forget a task that starts, or never will."""
        del self._tasks[address]
        self._not_before.pop(address, None)

    def all(self) -> list[WaitingTask]:
        """Return all that wait."""
        return list(self._tasks.values())

    def due(self, now: float) -> list[WaitingTask]:
        """Return the tasks that could start at once."""
        return [task for address, task in self._tasks.items() if self._not_before.get(address, 0.0) <= now]

    def moments(self) -> list[float]:
        """Return when the tasks that were postponed may start."""
        return [self._not_before[address] for address in self._tasks if address in self._not_before]

    def take_imports(self) -> list[WaitingTask]:
        """Return, and let go, what the engine itself does."""
        found = [task for task in self._tasks.values() if task.is_import]
        for task in found:
            self.remove(task.address)
        return found

    def take(self, room: int, most: int, now: float) -> list[tuple[WaitingTask, int]]:
        """Return, and let go, what fits into ``room`` of ``most`` places, each with how many it takes."""
        chosen = []
        for address, task in self._tasks.items():
            if room <= 0:
                break
            if task.is_import or self._not_before.get(address, 0.0) > now:
                continue
            weight = min(weight_of(task.ready), most)
            if weight <= room:
                chosen.append((task, weight))
                room -= weight
        for task, _ in chosen:
            self.remove(task.address)
        return chosen


def weight_of(item: ReadyTask) -> int:
    """Return how many places a task takes: the cores it asks for, one at least."""
    if not item.task.resources:
        return 1
    try:
        lookup = Lookup(parameters=item.given, job={})
        return max(1, math.ceil(read_resources(fill_placeholders(dict(item.task.resources), lookup)).cpu))
    except MainspringError:
        return 1  # said when the task is launched
