"""Tasks as processes of this machine, in the interpreter and with the packages the engine has."""

from __future__ import annotations

import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec

from mainspring.core import Unavailable
from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources
from mainspring.pipelines.launchers.interface import TaskLaunch
from mainspring.pipelines.launchers.pool import Order
from mainspring.pipelines.launchers.preload import preload_of
from mainspring.pipelines.launchers.ways import MachineLauncher
from mainspring.pipelines.requirements import unmet_requirements

ZYGOTE = Path(__file__).with_name("zygote.py")


class ProcessWay:
    """Forks a Python component from a warm zygote of this interpreter; nothing is ever installed."""

    enforces_requests = False

    def __init__(self, preload: tuple[str, ...] | None = None) -> None:
        self._preload = preload
        self._chosen: dict[str, tuple[str, ...]] = {}

    def refuse(self, component: PythonComponent | ContainerComponent, resources: Resources) -> str:
        """Refuse containers, components that want an environment of their own, and requirements that are not met."""
        if isinstance(component, ContainerComponent):
            return f"a container image ({component.image}) with a command of its own needs a container engine"
        if component.uses_venv:
            return "a Python component with its own virtual environment (use_venv) needs the venv launcher"
        require_kfp()
        unmet = unmet_requirements(component.requirements)
        return f"requirements that are not satisfied here: {', '.join(unmet)}" if unmet else ""

    def zygote(self, component: PythonComponent | ContainerComponent) -> tuple[str, ...]:
        """Return the command of a zygote of this interpreter with what the source imports."""
        assert isinstance(component, PythonComponent)
        preload = self._preload
        if preload is None:
            if component.source not in self._chosen:
                self._chosen[component.source] = preload_of(component.source)
            preload = self._chosen[component.source]
        return zygote_command(sys.executable, preload)

    def order(self, task: TaskLaunch) -> Order:
        """Return the function to run."""
        return function_order(task)


class ProcessLauncher(MachineLauncher):
    """Tasks forked from zygotes of this interpreter; ``preload`` fixes what they hold instead of choosing it."""

    def __init__(self, *, preload: tuple[str, ...] | None = None, log: Path | None = None) -> None:
        super().__init__([ProcessWay(preload)], log=log)
        ours = () if preload is not None else (preload_of("import mainspring"),)
        self._first = [zygote_command(sys.executable, modules) for modules in (preload or (), *ours)]

    def start(self) -> None:
        """Start zygotes now, so that they warm up while the caller does something else.

        They are the bare one, and the one for steps that use `mainspring.components`.
        """
        require_kfp()
        for command in self._first:
            self._pool.warm(command)

    @property
    def missing(self) -> dict[str, str]:
        """Modules that could not be preloaded, and why."""
        return self._pool.missing()


def zygote_command(python: str, preload: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command that starts a zygote."""
    return (python, "-P", str(ZYGOTE), msgspec.json.encode(preload).decode())


def function_order(task: TaskLaunch) -> Order:
    """Return the order to run a Python component's function."""
    assert isinstance(task.component, PythonComponent)
    return Order(
        key=task.key,
        folder=task.folder,
        log=task.log,
        error=task.error,
        environment=task.environment,
        source=task.source,
        function=task.component.function,
        executor_input=task.executor_input,
        is_notebook=task.component.is_notebook,
    )


@cache
def require_kfp() -> None:
    """Raise `Unavailable` when kfp, whose executor every Python task runs in, is not installed."""
    try:
        metadata.version("kfp")
    except metadata.PackageNotFoundError as error:
        raise Unavailable(
            "Running pipelines needs kfp, which is not installed.", hint="Run: pip install 'mainspring[pipelines]'"
        ) from error
