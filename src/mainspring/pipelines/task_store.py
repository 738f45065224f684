"""What a task process is told about the project it runs for, through its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mainspring.core import Unavailable
from mainspring.core.project import load_project
from mainspring.core.settings import ENVIRONMENT_PREFIX, ResolvedSettings, resolve_settings
from mainspring.lineage import Store, open_store

PROJECT_VARIABLE = "MAINSPRING_PROJECT"


def task_environment(settings: ResolvedSettings, *, tracking_url: str) -> dict[str, str]:
    """Return the variables that let a task find the project's store and log to its tracking server."""
    values = settings.values
    return {
        PROJECT_VARIABLE: str(settings.project_folder),
        f"{ENVIRONMENT_PREFIX}HOME": str(settings.home),
        f"{ENVIRONMENT_PREFIX}DATABASE": settings.database_url,
        f"{ENVIRONMENT_PREFIX}CLOCK": settings.clock_spec,
        f"{ENVIRONMENT_PREFIX}SEED": str(values.seed),
        "MLFLOW_TRACKING_URI": tracking_url,
        "MLFLOW_REGISTRY_URI": tracking_url,
        "MLFLOW_TRACKING_TOKEN": values.token,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }


def current_run_id(environment: Mapping[str, str] | None = None) -> str:
    """Return the id of the pipeline run this task belongs to; empty outside our engine."""
    return (os.environ if environment is None else environment).get("MAINSPRING_RUN_ID", "")


@contextmanager
def task_store(environment: Mapping[str, str] | None = None) -> Iterator[Store]:
    """Open the store of the project this task process runs for."""
    variables = os.environ if environment is None else environment
    folder = variables.get(PROJECT_VARIABLE)
    if folder is None:
        raise Unavailable(
            f"{PROJECT_VARIABLE} is not set, so this step does not know its project.",
            hint="Run the pipeline with: mainspring run",
        )
    project = load_project(Path(folder))
    settings = resolve_settings(Path(folder), file=project.settings, environment=variables)
    store = open_store(settings, project)
    try:
        yield store
    finally:
        store.close()
