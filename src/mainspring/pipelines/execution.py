"""One execution of a run: starts what the decider says, waits, records, until the run has ended.

Everything that must outlive this process is in the journal; what is kept here is about tasks that have not ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mainspring.core import MainspringError
from mainspring.db import Session
from mainspring.pipelines.attempt import (
    Attempt,
    Workplace,
    describe_failure,
    end_attempt,
    job_of,
    late,
    prepare,
    show_folders,
)
from mainspring.pipelines.board import Board, TaskProgress, ends_of
from mainspring.pipelines.cache import ANOTHER_ATTEMPT
from mainspring.pipelines.importing import run_importer
from mainspring.pipelines.journal import Begun, own
from mainspring.pipelines.launchers import TaskExit
from mainspring.pipelines.leases import LostLease, Presence
from mainspring.pipelines.leftovers import send_leftovers
from mainspring.pipelines.lookup import Hit, Lookup
from mainspring.pipelines.offers import Offers
from mainspring.pipelines.outcomes import CANCELED, Outcomes
from mainspring.pipelines.plan import Importer, Plan
from mainspring.pipelines.records import PipelineRun, TaskRun, get_run, list_tasks, read_tasks
from mainspring.pipelines.schedule import Changes, ReadyTask, Scheduler, is_exit_task, retry_delay
from mainspring.pipelines.values import Values
from mainspring.pipelines.waiting import WaitingTask, WaitingTasks

log = logging.getLogger("mainspring.pipelines")

_FOLLOW_SECONDS = 0.05


class RunExecution:
    """The state of one execution in memory."""

    def __init__(
        self,
        place: Workplace,
        begun: Begun,
        plan: Plan,
        presence: Presence,
        on_progress: Callable[[TaskProgress], None] | None,
    ) -> None:
        self._place = place
        self._run = run = begun.run
        self._context = begun.context
        self._plan = plan
        self._presence = presence
        self._on_progress = on_progress
        self._job = job_of(run, place.work_folder)
        self._started = time.perf_counter()
        self._checked = self._started
        self._running: dict[str, Attempt] = {}
        self._waiting = WaitingTasks()
        self._unseen: list[ReadyTask] = []
        self._untold: list[TaskProgress] = []
        self._outcomes = Outcomes(place)
        self._links: list[Path] = []
        self._wish = ""
        self._timed_out = False
        self._finished: PipelineRun | None = None
        for task in begun.left:
            end_attempt(place, task)
        with place.database.session() as session:
            rows = list_tasks(session, run.id, loops=True)
        self._board = Board(rows)
        self._lookup = Lookup(place.blobs, run, self._job)
        self._offers = Offers(place, run, presence)
        arguments = msgspec.structs.replace(run.artifacts, parameters=run.parameters)
        self._scheduler = Scheduler(plan, arguments, self._job, ends_of(rows))

    def run(self) -> PipelineRun:
        """Run to the end; whatever happens, no task of this execution is left running."""
        try:
            self._follow()
            while self._scheduler.state == "RUNNING":
                self._start_due()
                self._wait()
                self._check()
        finally:
            self._place.launcher.cancel_all()
            send_leftovers(self._place.environment)
            for link in self._links:
                link.unlink(missing_ok=True)
        if self._finished is None:
            with self._place.database.write_session() as session:
                own(session, self._run)
                self._finish_run(session)
        assert self._finished is not None
        return self._finished

    def _finish_run(self, session: Session) -> None:
        state, error = self._scheduler.state, self._scheduler.error
        if self._timed_out:
            state, error = "FAILED", f"The pipeline did not end within {self._plan.timeout_ms / 1000:g} s."
        took_ms = round((time.perf_counter() - self._started) * 1000)
        self._finished = self._place.journal.finish_run(
            session, self._run, state, error, self._scheduler.outputs, took_ms=took_ms
        )

    def _follow(self) -> None:
        """Take from the cache what can be, and record what the decider says, until only real work is left.

        Results that are used are recorded together, when nothing more follows from them.
        """
        hits: list[Hit] = []
        while True:
            changes = self._scheduler.take()
            if self._has_news(changes):
                self._write(hits, changes)
                hits = []
            ready, self._unseen = [*self._unseen, *changes.ready], []
            found, failed = self._look_up([item for item in ready if not self._is_elsewhere(item)])
            hits += found
            for hit in found:
                self._note(msgspec.structs.replace(hit.task, state="CACHED", outputs=hit.found.outputs, error=""))
            if failed:
                self._write(hits, None)
                hits = []
            for item, error in failed:
                self._fail(item, self._board[item.address], error)
            if not found and not failed:
                break
        self._write(hits, None)

    def _write(self, hits: list[Hit], changes: Changes | None) -> None:
        if hits or changes is not None:
            with self._place.database.write_session() as session:
                own(session, self._run)
                for hit in hits:
                    self._place.journal.reuse_result(
                        session, self._run, hit.ready, hit.task, hit.found, context=self._context, cache=hit.reason
                    )
                if changes is not None:
                    self._record(session, changes)
        self._tell()

    def _has_news(self, changes: Changes) -> bool:
        """Say whether anything was decided that the rows do not say yet."""
        known = self._board.unrecorded_skips(changes) or self._board.has_new_loops(changes)
        return bool(known or changes.unrunnable or changes.canceled or changes.empty_loops)

    def _record(self, session: Session, changes: Changes) -> None:
        journal, board, changed = self._place.journal, self._board, list[TaskRun]()
        if opened := board.unknown_loops(changes):
            rows = journal.open_loops(session, self._run.id, opened)
            board.open([loop for loop, _, _ in opened], rows)
        for task, reason in board.unended(board.unrecorded_skips(changes)):
            changed.append(journal.skip_task(session, task, reason))
        for task, _ in board.unended(dict.fromkeys(changes.empty_loops, "")):
            now = journal.clock.now_ms()
            changed.append(journal.change(session, task, state="COMPLETE", started_at=now, ended_at=now))
        for task, _ in board.unended(dict.fromkeys(changes.canceled, "")):
            changed.append(journal.cancel_task(session, self._run, task))
        for task, reason in board.unended(changes.unrunnable):
            changed.append(journal.fail_task(session, self._run, task, reason, retries=False))
        for task in changed:
            self._note(task)

    def _is_elsewhere(self, item: ReadyTask) -> bool:
        if item.address not in self._board:  # it ran with other inputs before its run was retried
            with self._place.database.session() as session:
                self._board.bring_back(*read_tasks(session, self._run.id, [item.address]))
        task = self._board[item.address]
        if task.state == "RUNNING":
            self._offers.adopt(item)
        else:
            self._postpone(item, task)
        return task.state == "RUNNING"

    def _postpone(self, item: ReadyTask, task: TaskRun) -> None:
        """Let a task wait until its next attempt is due, if that was decided; a clock set back does not prolong it."""
        if task.due_ms is not None:
            wait_ms = min(task.due_ms - self._place.lease_clock.now_ms(), retry_delay(item.retry, task.failures) or 0)
            self._waiting.postpone(task.address, time.perf_counter() + wait_ms / 1000)

    def _look_up(self, ready: list[ReadyTask]) -> tuple[list[Hit], list[tuple[ReadyTask, str]]]:
        """Return the tasks an earlier result stands in for, and those whose variables cannot be filled."""
        hits, failed = list[Hit](), list[tuple[ReadyTask, str]]()
        if not ready:
            return hits, failed
        with self._place.database.session() as session:
            for item in ready:
                task = self._board[item.address]
                try:
                    decision = self._lookup.decide(session, item, task)
                except MainspringError as error:
                    failed.append((item, error.message))
                    continue
                if decision.found is not None:
                    hits.append(Hit(ready=item, task=task, found=decision.found, reason=decision.reason))
                else:
                    self._waiting.add(WaitingTask(ready=item, key=decision.key, reason=decision.reason))
        return hits, failed

    def _start_due(self) -> None:
        """Start what there is room for; importers are done at once."""
        if imports := self._waiting.take_imports():
            for item in imports:
                self._import(item)
            self._follow()
        chosen = self._choose()
        if not chosen:
            return
        with self._place.database.write_session() as session:
            own(session, self._run)
            started = [self._begin(session, item) for item, _ in chosen]
        self._tell()
        self._launch_all(chosen, started)

    def _choose(self) -> list[tuple[WaitingTask, int]]:
        most = self._place.max_parallel
        room = most - sum(attempt.weight for attempt in self._running.values())
        return self._waiting.take(room, most, time.perf_counter())

    def _begin(self, session: Session, item: WaitingTask) -> TaskRun:
        task = self._place.journal.start_task(
            session, self._run, item.ready, self._board[item.address], context=self._context,
            owner=self._presence.id, cache_key=item.key, cache=item.reason,
        )  # fmt: skip
        self._note(task)
        return task

    def _import(self, item: WaitingTask) -> None:
        importer = item.ready.task.body
        assert isinstance(importer, Importer)
        with self._place.database.write_session() as session:
            own(session, self._run)
            task = self._begin(session, item)
        given, place = item.ready.given, self._place
        try:
            outputs = run_importer(importer, given, self._job, place.blobs, place.work_folder.parent)
        except (MainspringError, OSError) as error:
            self._fail(item.ready, task, describe_failure(error))
            return
        with place.database.write_session() as session:
            own(session, self._run)
            self._note(place.journal.finish_task(session, self._run, task, outputs))
        self._tell()

    def _launch_all(self, chosen: list[tuple[WaitingTask, int]], started: list[TaskRun]) -> None:
        for (item, weight), task in zip(chosen, started, strict=True):
            self._launch(item.ready, task, weight)

    def _launch(self, item: ReadyTask, task: TaskRun, weight: int) -> None:
        key = f"{task.run_id}/{task.address}#{task.attempt}"
        try:
            self._links += show_folders(self._place, self._run, item)
            launch = prepare(self._place, self._run, item, task, key)
        except (MainspringError, OSError) as error:
            self._fail(item, task, describe_failure(error))
            self._follow()
            return
        now, timeout_ms = time.perf_counter(), item.task.platform.timeout_ms
        deadline = now + timeout_ms / 1000 if timeout_ms else None
        self._running[key] = Attempt(ready=item, task=task, weight=weight, started=now, deadline=deadline)
        self._place.launcher.launch(launch)

    def _wait(self) -> None:
        """Wait until a task ends, an attempt or a look at the world is due; see to the tasks that ended."""
        now = time.perf_counter()
        moments = [self._checked + self._place.times.poll]
        moments += [attempt.deadline for attempt in self._running.values() if attempt.deadline is not None]
        if len(self._running) < self._place.max_parallel:
            moments += self._waiting.moments()
        if len(self._offers):
            moments.append(now + _FOLLOW_SECONDS)
        timeout = max(0.0, min(moments) - now)
        if self._scheduler.state != "RUNNING":
            return
        if self._running:
            self._collect(self._place.launcher.wait(timeout))
        elif not (self._place.max_parallel > 0 and self._waiting.due(now)):
            time.sleep(timeout)

    def _collect(self, exits: list[TaskExit]) -> None:
        """Record how tasks ended: all in one transaction, and what they left is stored before it."""
        ended = [(self._running.pop(item.key), item) for item in exits if item.key in self._running]
        if not ended:
            return
        results = [(attempt, item, self._outcomes.read(self._run, attempt, item)) for attempt, item in ended]
        with self._place.database.write_session() as session:
            own(session, self._run)
            for attempt, item, result in results:
                task = self._outcomes.record(session, self._run, attempt, item, result, may_retry=not self._wish)
                self._note(task)
                if task.state == "PENDING":
                    self._wait_again(attempt.ready, task)
            chosen = self._go_on(session)
            started = [self._begin(session, item) for item, _ in chosen]
        self._tell()
        self._launch_all(chosen, started)
        if any(not isinstance(result, Values) for _, _, result in results):
            send_leftovers(self._place.environment)
        self._follow()

    def _go_on(self, session: Session) -> list[tuple[WaitingTask, int]]:
        """Record, with the ends that led to it, what follows from them; return what is to start in the same breath.

        A task that an earlier result may stand in for is left to `_follow`: hashing its bytes takes its time.
        """
        changes = self._scheduler.take()
        if self._has_news(changes):
            self._record(session, changes)
        for item in changes.ready:
            known = item.address in self._board
            waiting = self._lookup.decide_quickly(session, item, self._board[item.address]) if known else None
            if waiting is not None:
                self._waiting.add(waiting)
            else:
                self._unseen.append(item)
        if self._scheduler.state != "RUNNING":
            self._finish_run(session)
        return self._choose()

    def _wait_again(self, item: ReadyTask, task: TaskRun) -> None:
        """Let a task wait for its next attempt; its result will be found by the same key."""
        self._waiting.add(WaitingTask(ready=item, key=task.cache_key or "", reason=ANOTHER_ATTEMPT))
        self._postpone(item, task)

    def _fail(self, item: ReadyTask, task: TaskRun, error: str) -> None:
        """Record that an attempt failed before it ran."""
        with self._place.database.write_session() as session:
            own(session, self._run)
            failed = self._outcomes.record_failure(session, self._run, item, task, error, may_retry=not self._wish)
        self._note(failed)
        if failed.state == "PENDING":
            self._wait_again(item, failed)
        self._tell()

    def _check(self) -> None:
        """Look after what happens elsewhere: other workers' tasks, wishes for the run, deadlines, our own lease."""
        self._hear(self._offers.poll())
        now = time.perf_counter()
        for key, attempt in self._running.items():
            if attempt.deadline is not None and attempt.deadline <= now and not attempt.killed:
                self._kill(key, attempt, late(attempt.ready))
        if now - self._checked < self._place.times.poll:
            return
        self._checked = now
        if self._presence.is_fenced:
            self._stop_and_renew()
        with self._place.database.session() as session:
            run = get_run(session, self._run.id)
        if run.token != self._run.token:
            raise LostLease(f"Another engine has taken over run {run.id}.", hint="Let that one finish it.")
        wish = run.desired if run.desired in ("CANCELED", "KILLED") else ""
        if not wish and self._plan.timeout_ms and now - self._started > self._plan.timeout_ms / 1000:
            wish, self._timed_out = "CANCELED", True
        if wish and wish != self._wish:
            self._cancel(wish)
        self._hear(self._offers.rescue())
        self._share()

    def _share(self) -> None:
        """Offer what waits for a place here to other workers, or take it back when there is room here again."""
        waiting = {} if self._wish else {task.address: task for task in self._waiting.due(time.perf_counter())}
        if waiting:
            for address in self._offers.offer(waiting):
                self._waiting.remove(address)
        elif not self._waiting:
            self._hear(self._offers.withdraw(self._place.max_parallel - len(self._running)))

    def _hear(self, heard: list[tuple[ReadyTask, TaskRun]]) -> None:
        """Go on with tasks that were elsewhere: they ended, or they are to run here."""
        for item, task in heard:
            self._note(task)
            if task.state == "PENDING":
                self._waiting.add(WaitingTask(ready=item, key=task.cache_key or "", reason=task.cache))
                self._postpone(item, task)
        self._tell()
        if heard:
            self._follow()

    def _cancel(self, wish: str) -> None:
        """Stop the run: what runs is killed, what waits does not start; exit tasks still run, unless ``KILLED``."""
        self._wish = wish
        self._scheduler.cancel()
        is_final = wish == "KILLED"
        for key, attempt in self._running.items():
            if (is_final or not is_exit_task(attempt.ready.task)) and not attempt.killed:
                self._kill(key, attempt, CANCELED)
        waiting = [task for task in self._waiting.all() if is_final or not is_exit_task(task.ready.task)]
        with self._place.database.write_session() as session:
            own(session, self._run)
            changed = self._offers.cancel(session, all_of_them=is_final)
            for item in waiting:
                changed.append(self._place.journal.cancel_task(session, self._run, self._board[item.address]))
        for item in waiting:
            self._waiting.remove(item.address)
        for task in changed:
            self._note(task)
        self._tell()
        self._follow()

    def _kill(self, key: str, attempt: Attempt, reason: str) -> None:
        attempt.killed = reason
        self._place.launcher.cancel(key)

    def _stop_and_renew(self) -> None:
        """Stop our own tasks, because others may take us for dead; go on when the lease is renewed and still ours."""
        log.warning("lease.stale run=%s worker=%s", self._run.id, self._presence.id)
        self._place.launcher.cancel_all()
        while self._presence.is_fenced and not self._presence.renew():
            time.sleep(self._place.times.poll)
        attempts, self._running = list(self._running.values()), {}
        with self._place.database.write_session() as session:
            own(session, self._run)
            for attempt in attempts:
                task = self._place.journal.lose_task(session, attempt.task)
                self._note(msgspec.structs.replace(task, state="PENDING", execution_id=None))
                self._wait_again(attempt.ready, task)
        self._tell()

    def _note(self, task: TaskRun) -> None:
        """Take note of how a task stands, and tell the decider if it ended; who watches hears it after the commit."""
        end = self._board.note(task)
        if end is not None:
            self._scheduler.finish(task.address, end)
        if self._on_progress is not None:
            self._untold.append(self._board.progress(task))

    def _tell(self) -> None:
        """Tell whoever watches what has been recorded since the last time."""
        untold, self._untold = self._untold, []
        for progress in untold:
            if self._on_progress is not None:
                self._on_progress(progress)
