"""How a task is started on a machine: one file per way."""

from __future__ import annotations

from mainspring.pipelines.launchers.interface import Launcher, TaskExit, TaskLaunch
from mainspring.pipelines.launchers.process import ProcessLauncher

__all__ = ["Launcher", "ProcessLauncher", "TaskExit", "TaskLaunch"]
