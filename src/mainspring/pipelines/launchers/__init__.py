"""How a task is started on a machine: one file per way."""

from __future__ import annotations

from mainspring.pipelines.launchers.container import ContainerEngine, ContainerLauncher, container_command
from mainspring.pipelines.launchers.interface import Launcher, TaskExit, TaskLaunch, TaskUsage
from mainspring.pipelines.launchers.local import LocalLauncher
from mainspring.pipelines.launchers.process import ProcessLauncher
from mainspring.pipelines.launchers.venv import VenvLauncher

__all__ = [
    "ContainerEngine",
    "ContainerLauncher",
    "Launcher",
    "LocalLauncher",
    "ProcessLauncher",
    "TaskExit",
    "TaskLaunch",
    "TaskUsage",
    "VenvLauncher",
    "container_command",
]
