"""A worker: runs tasks that engines of other processes or machines offer, and whole runs that wait for anybody.

It needs the same database and the same bytes (the project's home on a shared disk). Several workers and engines may
come and go at any time; who claims an offer, or takes a run, is settled in the database.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from mainspring import lineage
from mainspring.core import Conflict, InvalidInput, MainspringError
from mainspring.db import driver_errors
from mainspring.pipelines.attempt import (
    Attempt,
    Workplace,
    describe_failure,
    late,
    prepare,
    show_folders,
)
from mainspring.pipelines.board import TaskProgress
from mainspring.pipelines.journal import CONTEXT, check_attempt
from mainspring.pipelines.launchers import TaskExit
from mainspring.pipelines.leases import LostLease, Presence, find_worker, forget_dead, is_alive
from mainspring.pipelines.offers import OfferedTask, claim_next, has_offers
from mainspring.pipelines.outcomes import Outcomes
from mainspring.pipelines.patience import came_back
from mainspring.pipelines.plan import DagPlan, TaskPlan
from mainspring.pipelines.plans import Plans
from mainspring.pipelines.records import PipelineRun, TaskRun, read_tasks
from mainspring.pipelines.schedule import ReadyTask

_IDLE_SECONDS = 0.2
_WANTED = (
    "SELECT id,state,owner FROM pipeline_run WHERE desired='RUNNING' AND state IN ('PENDING','RUNNING') ORDER BY id"
)


def run_worker(
    place: Workplace,
    execute: Callable[[str], PipelineRun],
    stopping: threading.Event,
    *,
    on_progress: Callable[[TaskProgress], None] | None = None,
) -> None:
    """Work until told to stop: take queued runs with ``execute``, and otherwise tasks that are offered."""
    while not stopping.is_set():
        try:
            run_id = next_queued_run(place)
            if run_id is None:
                help_out(place, stopping, on_progress)
                continue
            with contextlib.suppress(Conflict):  # another worker was quicker
                execute(run_id)
        except driver_errors() as error:
            if not came_back(place.database, error):
                raise


def next_queued_run(place: Workplace) -> str | None:
    """Return the oldest run that any worker may take, or None: one whose engine hangs is free."""
    place.watch.expel(place.database)
    with place.database.session() as session:
        for id, state, owner in session.rows(_WANTED):
            if state == "PENDING" or not (owner and is_alive(find_worker(session, owner), place.lease_clock)):
                return str(id)
    return None


def help_out(
    place: Workplace, stopping: threading.Event, on_progress: Callable[[TaskProgress], None] | None = None
) -> None:
    """Run offered tasks until there is nothing to do and a run waits for somebody, or until told to stop."""
    slots = max(1, place.max_parallel)
    with Presence(place.database, place.lease_clock, place.work_folder, slots=slots, times=place.times) as presence:
        with place.database.write_session() as session:
            forget_dead(session, place.lease_clock)
            presence.register(session)
        helper = _Helper(place, presence, on_progress)
        try:
            while not stopping.is_set():
                helper.step()
                if not helper.is_busy and next_queued_run(place) is not None:
                    return
        finally:
            helper.give_up()


class _Helper:
    """The tasks this worker runs for others."""

    def __init__(
        self, place: Workplace, presence: Presence, on_progress: Callable[[TaskProgress], None] | None
    ) -> None:
        self._place = place
        self._presence = presence
        self._on_progress = on_progress
        self._running: dict[str, tuple[Attempt, PipelineRun]] = {}
        self._plans = Plans(place.blobs)
        self._outcomes = Outcomes(place)
        self._checked = time.perf_counter()

    @property
    def is_busy(self) -> bool:
        """Whether any task runs here."""
        return bool(self._running)

    def step(self) -> None:
        """Claim what there is room for, wait a moment, record what ended."""
        while len(self._running) < max(1, self._place.max_parallel) and self._claim():
            pass
        if self._running:
            for ended in self._place.launcher.wait(_IDLE_SECONDS):
                self._collect(ended)
        else:
            time.sleep(_IDLE_SECONDS)
        if time.perf_counter() - self._checked > self._place.times.poll:
            self._checked = time.perf_counter()
            self._check()

    def give_up(self) -> None:
        """Stop all tasks and hand them back to their engines; if that cannot be recorded, they find out themselves."""
        self._place.launcher.cancel_all()
        given_up, self._running = self._running, {}
        for attempt, _ in given_up.values():
            with contextlib.suppress(LostLease, *driver_errors()), self._place.database.write_session() as session:
                check_attempt(session, attempt.task)
                self._place.journal.lose_task(session, attempt.task)

    def _claim(self) -> bool:
        with self._place.database.session() as session:
            if not has_offers(session):
                return False
        with self._place.database.write_session() as session:
            found = claim_next(session)
            if found is None:
                return False
            run, task, offered = found
            ready = self._ready(run, task, offered)
            context = lineage.put_context(session, self._place.journal.clock, type=CONTEXT, name=run.id)
            task = self._place.journal.start_task(
                session, run, ready, task, context=context, owner=self._presence.id,
                cache_key=offered.cache_key, cache=offered.cache,
            )  # fmt: skip
        self._tell(task)
        self._launch(run, ready, task)
        return True

    def _ready(self, run: PipelineRun, task: TaskRun, offered: OfferedTask) -> ReadyTask:
        return ReadyTask(
            address=task.address,
            task=find_plan(self._plans.get(run.ir_digest).root, task.address),
            inputs=offered.inputs,
            given=offered.given,
            retry=offered.retry,
            caches=False,
        )

    def _launch(self, run: PipelineRun, ready: ReadyTask, task: TaskRun) -> None:
        key = f"{task.run_id}/{task.address}#{task.attempt}"
        body = ready.task.body
        assert not isinstance(body, DagPlan)
        now, timeout_ms = time.perf_counter(), ready.task.platform.timeout_ms
        deadline = now + timeout_ms / 1000 if timeout_ms else None
        attempt = Attempt(ready=ready, task=task, weight=1, started=now, deadline=deadline)
        try:
            show_folders(self._place, run, ready)
            launch = prepare(self._place, run, ready, task, key)
            if reason := self._place.launcher.refuse(launch.component, launch.resources):
                raise InvalidInput(f"This worker cannot run it: {reason}.")
        except (MainspringError, OSError) as error:
            self._record(attempt, run, TaskExit(key=key, status=1, error=describe_failure(error)))
            return
        self._running[key] = (attempt, run)
        self._place.launcher.launch(launch)

    def _collect(self, ended: TaskExit) -> None:
        found = self._running.pop(ended.key, None)
        if found is not None:
            self._record(*found, ended)

    def _record(self, attempt: Attempt, run: PipelineRun, ended: TaskExit) -> None:
        """Record how an attempt ended, unless it is not ours any more."""
        result = self._outcomes.read(run, attempt, ended)
        try:
            with self._place.database.write_session() as session:
                check_attempt(session, attempt.task)
                done = self._outcomes.record(session, run, attempt, ended, result)
        except LostLease:
            return  # the run was canceled, or somebody else has the task by now: what it did here does not count
        self._tell(done)

    def _check(self) -> None:
        """Stop tasks that are not ours any more, that took too long, or all when we may be taken for dead."""
        if self._presence.is_fenced:
            self.give_up()
            self._presence.renew()
        now = time.perf_counter()
        with self._place.database.session() as session:
            for key, (attempt, _) in list(self._running.items()):
                task = attempt.task
                row = read_tasks(session, task.run_id, [task.address])[0]
                if (row.state, row.owner, row.attempt) != ("RUNNING", task.owner, task.attempt):
                    attempt.killed = "It is not this worker's any more."
                    self._place.launcher.cancel(key)
                elif attempt.deadline is not None and attempt.deadline <= now and not attempt.killed:
                    attempt.killed = late(attempt.ready)
                    self._place.launcher.cancel(key)

    def _tell(self, task: TaskRun) -> None:
        if self._on_progress is not None:
            progress = TaskProgress(
                run_id=task.run_id, address=task.address, name=task.name, state=task.state, error=task.error,
                finished=0, total=0, attempt=task.attempt,
            )  # fmt: skip
            self._on_progress(progress)


def find_plan(root: DagPlan, address: str) -> TaskPlan:
    """Return the plan of the task at an address."""
    parts = address.split("/")
    task = root.tasks[parts.pop(0)]
    while parts:
        if task.loop is not None:
            parts.pop(0)
        assert isinstance(task.body, DagPlan)
        task = task.body.tasks[parts.pop(0)]
    return task
