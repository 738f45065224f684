"""How a command says that a pipeline run did not end well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.core import MainspringError

if TYPE_CHECKING:
    from mainspring.pipelines import PipelineRun


class RunFailed(MainspringError):
    """The pipeline run ended, but not well."""

    code = "RUN_FAILED"
    exit_status = 8


def failure_of(finished: PipelineRun) -> RunFailed:
    """Return the error that says how a run ended and what to do next."""
    if finished.state == "CANCELED":
        return RunFailed(f"Run {finished.id} was canceled.", hint=f"Go on with it: mainspring retry {finished.id}")
    return RunFailed(
        f"Run {finished.id} ended as {finished.state}: {finished.error}",
        hint=f"See what a task printed with: mainspring logs {finished.id} TASK; then: mainspring retry {finished.id}",
    )
