"""The ways a task can be run by a zygote of this machine, and the launcher that takes the first that fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mainspring.core import InvalidInput
from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources
from mainspring.pipelines.launchers.interface import TaskExit, TaskLaunch
from mainspring.pipelines.launchers.pool import Order, ZygotePool

_NOTHING = Resources()


class Way(Protocol):
    """One way to run a task: whether it can, which zygote does it, and what that is told."""

    enforces_requests: bool
    """Whether a task gets the memory and the accelerators it asks for, and no more."""

    def refuse(self, component: PythonComponent | ContainerComponent, resources: Resources) -> str:
        """Return why it cannot run the component; empty when it can."""
        ...

    def zygote(self, component: PythonComponent | ContainerComponent) -> tuple[str, ...]:
        """Return the command of the zygote that forks the component's tasks."""
        ...

    def order(self, task: TaskLaunch) -> Order:
        """Return what the zygote is told."""
        ...


class MachineLauncher:
    """Runs each task on this machine in the first of its ways that does not refuse it."""

    def __init__(self, ways: Sequence[Way], *, log: Path | None = None) -> None:
        self._ways = tuple(ways)
        self._pool = ZygotePool(log=log)
        self._chosen: dict[tuple[str, Resources], Way] = {}

    def refuse(self, component: PythonComponent | ContainerComponent, resources: Resources = _NOTHING) -> str:
        """Return why none of the ways can run the component; empty when one can."""
        reasons = []
        for way in self._ways:
            reason = way.refuse(component, resources)
            if not reason:
                self._chosen[component.digest, resources] = way
                return ""
            reasons.append(reason)
        return "; ".join(dict.fromkeys(reasons))

    def enforces_requests(self, component: PythonComponent | ContainerComponent, resources: Resources) -> bool:
        """Say whether a task gets the memory and the accelerators it asks for, and no more."""
        return self._way_of(component, resources).enforces_requests

    def warm(self, components: Sequence[PythonComponent | ContainerComponent]) -> None:
        """Start the zygotes these components will need, so that they warm up while the caller does something else."""
        for component in components:
            if not self.refuse(component):
                self._pool.warm(self._way_of(component, _NOTHING).zygote(component))

    def launch(self, task: TaskLaunch) -> None:
        """Have the task forked by the zygote that suits it."""
        way = self._way_of(task.component, task.resources)
        self._pool.submit(way.zygote(task.component), way.order(task))

    def wait(self, timeout: float | None) -> list[TaskExit]:
        """Return the tasks that ended; wait for one at most ``timeout`` seconds."""
        return self._pool.wait(timeout)

    def cancel(self, key: str) -> None:
        """Kill one task with everything it started."""
        self._pool.cancel(key)

    def cancel_all(self) -> None:
        """Kill all running tasks and forget them."""
        self._pool.cancel_all()

    def close(self) -> None:
        """End the zygotes and every task."""
        self._pool.close()

    @property
    def zygote_pids(self) -> list[int]:
        """Process ids of the zygotes that run."""
        return self._pool.pids()

    def _way_of(self, component: PythonComponent | ContainerComponent, resources: Resources) -> Way:
        """Return the way that was found fit; checking requirements reads files, so launches do not do it again."""
        key = (component.digest, resources)
        if key not in self._chosen and (reason := self.refuse(component, resources)):
            raise InvalidInput(f"A task cannot run here: {reason}.")
        return self._chosen[key]
