"""Pipelines: compiled KFP pipelines, planned, scheduled, launched, cached and resumed."""

from __future__ import annotations

from mainspring.pipelines.attempt import attempt_folder
from mainspring.pipelines.board import TaskProgress
from mainspring.pipelines.compile import CompiledPipeline, compile_pipeline, read_compiled
from mainspring.pipelines.engine import Engine
from mainspring.pipelines.explain import Explanation, explain_task
from mainspring.pipelines.forecast import Forecast
from mainspring.pipelines.launchers import Launcher, LocalLauncher, ProcessLauncher
from mainspring.pipelines.leases import LeaseTimes
from mainspring.pipelines.records import (
    PipelineRun,
    TaskRun,
    find_task,
    get_run,
    get_task,
    list_runs,
    list_tasks,
)
from mainspring.pipelines.retention import WorkCleaner, clean_work
from mainspring.pipelines.task_store import current_run_id, task_environment, task_store
from mainspring.pipelines.values import ArtifactValue, Values
from mainspring.pipelines.worker import next_queued_run

__all__ = [
    "ArtifactValue",
    "CompiledPipeline",
    "Engine",
    "Explanation",
    "Forecast",
    "Launcher",
    "LeaseTimes",
    "LocalLauncher",
    "PipelineRun",
    "ProcessLauncher",
    "TaskProgress",
    "TaskRun",
    "Values",
    "WorkCleaner",
    "attempt_folder",
    "clean_work",
    "compile_pipeline",
    "current_run_id",
    "explain_task",
    "find_task",
    "get_run",
    "get_task",
    "list_runs",
    "list_tasks",
    "next_queued_run",
    "read_compiled",
    "task_environment",
    "task_store",
]
