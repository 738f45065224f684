"""How attempts end: what they left becomes outputs, or a failure that is tried again or not.

The same for an engine and for a worker that helps one.
"""

from __future__ import annotations

import time

import msgspec

from mainspring.core import MainspringError
from mainspring.db import Session
from mainspring.pipelines.attempt import Attempt, Workplace, describe_failure, outputs_of
from mainspring.pipelines.launchers import TaskExit, TaskUsage
from mainspring.pipelines.records import PipelineRun, TaskRun
from mainspring.pipelines.schedule import ReadyTask, retry_delay
from mainspring.pipelines.values import Values

CANCELED = "CANCELED"
"""Why an attempt was killed, when that was because its run is canceled."""
_MAX_LOSSES = 3


class Outcomes:
    """Reads and records how attempts end, and counts how often each task was lost with its launcher."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._losses: dict[tuple[str, str], int] = {}

    def read(self, run: PipelineRun, attempt: Attempt, ended: TaskExit) -> Values | str:
        """Store what an attempt left and return it, or say what went wrong; one that ended before its kill did well."""
        if ended.error:
            return attempt.killed or ended.error
        try:
            return outputs_of(self._place, run, attempt.ready, attempt.task)
        except (MainspringError, OSError, msgspec.DecodeError) as error:
            return describe_failure(error)

    def record(
        self,
        session: Session,
        run: PipelineRun,
        attempt: Attempt,
        ended: TaskExit,
        result: Values | str,
        *,
        may_retry: bool = True,
    ) -> TaskRun:
        """Record how an attempt ended; return its task as it is now, PENDING if there will be another attempt."""
        journal, task = self._place.journal, attempt.task
        took_ms = round((time.perf_counter() - attempt.started) * 1000)
        if isinstance(result, Values):
            return journal.finish_task(session, run, task, result, took_ms=took_ms, usage=ended.usage)
        if attempt.killed == CANCELED:
            return journal.cancel_task(session, run, task)
        if ended.lost and not attempt.killed and self._may_lose(task):
            return journal.fail_task(session, run, task, result, retries=True, counts=False)
        return self.record_failure(
            session, run, attempt.ready, task, result, may_retry=may_retry, took_ms=took_ms, usage=ended.usage
        )

    def record_failure(
        self,
        session: Session,
        run: PipelineRun,
        item: ReadyTask,
        task: TaskRun,
        error: str,
        *,
        may_retry: bool = True,
        took_ms: int | None = None,
        usage: TaskUsage | None = None,
    ) -> TaskRun:
        """Record that an attempt failed, and when the next one is due if its retries allow one."""
        delay = retry_delay(item.retry, task.failures + 1) if may_retry else None
        due_ms = None if delay is None else self._place.lease_clock.now_ms() + delay
        return self._place.journal.fail_task(
            session, run, task, error, retries=delay is not None, due_ms=due_ms, took_ms=took_ms, usage=usage
        )

    def _may_lose(self, task: TaskRun) -> bool:
        """Count a loss; a task that takes its launcher down again and again has failed."""
        key = (task.run_id, task.address)
        self._losses[key] = self._losses.get(key, 0) + 1
        return self._losses[key] <= _MAX_LOSSES
