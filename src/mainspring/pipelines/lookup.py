"""The question asked of every task of a run before it starts: does an earlier result stand in for it?"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import MainspringError
from mainspring.db import Session
from mainspring.pipelines.attempt import own_variables
from mainspring.pipelines.cache import CacheDecision, decide_cache, find_earlier
from mainspring.pipelines.plan import Importer
from mainspring.pipelines.records import PipelineRun, TaskRun
from mainspring.pipelines.schedule import ReadyTask
from mainspring.pipelines.waiting import WaitingTask


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A task that an earlier result stands in for."""

    ready: ReadyTask
    task: TaskRun
    found: TaskRun
    reason: str


class Lookup:
    """Answers for one run."""

    def __init__(self, blobs: LocalBlobs, run: PipelineRun, job: Mapping[str, str]) -> None:
        self._blobs = blobs
        self._use_cache = run.use_cache
        self._job = job

    def decide(self, session: Session, item: ReadyTask, task: TaskRun) -> CacheDecision:
        """Say whether an earlier result stands in for a task; its bytes are hashed again before it does.

        Raises `MainspringError` when the task's variables cannot be filled.
        """
        if isinstance(item.task.body, Importer):
            return CacheDecision(key="", reason="an importer always looks")
        variables, is_first = own_variables(item, self._job), not task.attempt
        return decide_cache(session, self._blobs, item, variables, use_cache=self._use_cache, is_first=is_first)

    def decide_quickly(self, session: Session, item: ReadyTask, task: TaskRun) -> WaitingTask | None:
        """Return a task that surely has to run; None when that takes a longer look, or may not be so."""
        if isinstance(item.task.body, Importer) or task.state == "RUNNING" or task.attempt or task.due_ms is not None:
            return None
        try:
            variables = own_variables(item, self._job)
        except MainspringError:
            return None
        earlier = find_earlier(session, item, variables, use_cache=self._use_cache, is_first=True)
        return None if earlier.results else WaitingTask(ready=item, key=earlier.key, reason=earlier.reason)
