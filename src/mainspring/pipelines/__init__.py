"""Pipelines: compiled KFP pipelines, planned, scheduled, launched, cached and resumed."""

from __future__ import annotations

from mainspring.pipelines.compile import CompiledPipeline, compile_pipeline, read_compiled
from mainspring.pipelines.engine import Engine
from mainspring.pipelines.execution import TaskProgress
from mainspring.pipelines.launchers import Launcher, ProcessLauncher
from mainspring.pipelines.records import (
    PipelineRun,
    TaskRun,
    find_task,
    get_run,
    list_runs,
    list_tasks,
    unfinished_runs,
)
from mainspring.pipelines.task_store import current_run_id, task_environment, task_store
from mainspring.pipelines.values import ArtifactValue, Values

__all__ = [
    "ArtifactValue",
    "CompiledPipeline",
    "Engine",
    "Launcher",
    "PipelineRun",
    "ProcessLauncher",
    "TaskProgress",
    "TaskRun",
    "Values",
    "compile_pipeline",
    "current_run_id",
    "find_task",
    "get_run",
    "list_runs",
    "list_tasks",
    "read_compiled",
    "task_environment",
    "task_store",
    "unfinished_runs",
]
