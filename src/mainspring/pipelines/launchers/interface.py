"""What the engine expects of a launcher."""

from __future__ import annotations

from typing import Protocol

import msgspec

from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources


class TaskLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """A task to start: the files in its folder are written already."""

    key: str
    """Names the launch; comes back in its `TaskExit`. Unique among the launches that run."""
    component: PythonComponent | ContainerComponent
    """What to run; the placeholders in a container's command and arguments are filled."""
    source: str = ""
    """Path of a Python component's source text."""
    executor_input: str
    """Path of KFP's ExecutorInput."""
    folder: str
    """Working directory. Its parent is the task's own folder: all paths the task is given lie below it."""
    log: str
    error: str
    """Path of the file that takes the exception of a failed task."""
    environment: dict[str, str]
    """Variables to set, placeholders filled: the engine's own and the component's."""
    resources: Resources = Resources()


class TaskUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a task took from the machine, with everything it started and waited for."""

    max_rss_bytes: int
    cpu_seconds: float


class TaskExit(msgspec.Struct, frozen=True, kw_only=True):
    """How a launch ended."""

    key: str
    status: int
    """Exit status; negative is the number of the signal that killed it."""
    error: str = ""
    """The exception in one line; empty when the task ended well."""
    lost: bool = False
    """The launcher itself broke down: nobody knows how the task ended, it has to run again."""
    usage: TaskUsage | None = None


class Launcher(Protocol):
    """Starts tasks and says how they ended. One engine at a time, one thread."""

    def refuse(self, component: PythonComponent | ContainerComponent, resources: Resources = Resources()) -> str:  # noqa: B008 - frozen
        """Return why this launcher cannot run the component; empty when it can."""
        ...

    def enforces_requests(self, component: PythonComponent | ContainerComponent, resources: Resources) -> bool:
        """Say whether a task gets the memory and accelerators it asks for, and no more; cores are always counted."""
        ...

    def launch(self, task: TaskLaunch) -> None:
        """Start a task and return at once."""
        ...

    def wait(self, timeout: float | None) -> list[TaskExit]:
        """Return the tasks that ended; wait for one at most ``timeout`` seconds (None: as long as it takes)."""
        ...

    def cancel(self, key: str) -> None:
        """Kill one task with everything it started; its `TaskExit` comes from `wait` as any other."""
        ...

    def cancel_all(self) -> None:
        """Kill all tasks that run, with everything they started, and forget them."""
        ...
