"""One execution of a run: starts what the decider says, waits, records, until the run has ended.

Everything that must outlive this process is in the journal; what is kept here is about tasks that have not ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from mainspring.core import MainspringError
from mainspring.pipelines.attempt import (
    Workplace,
    attempt_folder,
    describe_failure,
    job_of,
    late,
    outputs_of,
    own_variables,
    prepare,
    show_folders,
    weight_of,
)
from mainspring.pipelines.cache import CacheDecision, decide_cache
from mainspring.pipelines.importing import run_importer
from mainspring.pipelines.journal import Begun, own
from mainspring.pipelines.launchers import TaskExit, TaskUsage
from mainspring.pipelines.leases import LostLease, Presence, end_strays
from mainspring.pipelines.offers import Offers
from mainspring.pipelines.plan import Importer, Place, Plan
from mainspring.pipelines.records import OPENED, PipelineRun, TaskRun, get_run, list_tasks, read_tasks
from mainspring.pipelines.schedule import ENDED, Changes, ReadyTask, Recorded, Scheduler, is_exit_task, retry_delay
from mainspring.pipelines.values import Values

log = logging.getLogger("mainspring.pipelines")

_MAX_LOSSES = 3
_CANCELED = "CANCELED"
_FOLLOW_SECONDS = 0.05


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A task changed its state; ``finished`` of ``total`` tasks are done."""

    run_id: str
    address: str
    name: str
    state: str
    error: str
    finished: int
    total: int
    attempt: int = 0


class Attempt(msgspec.Struct, kw_only=True):
    """A task that runs in this engine."""

    ready: ReadyTask
    task: TaskRun
    weight: int
    started: float
    deadline: float | None = None
    killed: str = ""
    """Why the engine ended it."""


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
        self._ready: dict[str, ReadyTask] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._not_before: dict[str, float] = {}
        self._losses: dict[str, int] = {}
        self._links: list[Path] = []
        self._wish = ""
        self._timed_out = False
        for task in begun.left:
            end_strays(attempt_folder(place.work_folder, task).root)
        records = self._load()
        self._offers = Offers(place, run, presence)
        arguments = msgspec.structs.replace(run.artifacts, parameters=run.parameters)
        self._scheduler = Scheduler(plan, arguments, self._job, records)

    def _load(self) -> dict[str, Recorded]:
        with self._place.database.read() as connection:
            rows = list_tasks(connection, self._run.id, loops=True)
        self._known = {task.address for task in rows}
        self._positions = {task.address: task.position for task in rows if task.kind == "loop"}
        self._tasks = {task.address: task for task in rows if task.state not in (*ENDED, "SKIPPED", OPENED)}
        self._left_out = {task.address for task in rows if task.state == "SKIPPED"}
        self._total = sum(task.state != OPENED for task in rows)
        self._finished = self._total - len(self._tasks)
        return {
            task.address: Recorded(state=task.state, outputs=task.outputs, error=task.error, inputs=task.inputs)
            for task in rows
            if task.state in ENDED and task.kind != "loop"
        }

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
            for link in self._links:
                link.unlink(missing_ok=True)
        state, error = self._scheduler.state, self._scheduler.error
        if self._timed_out:
            state, error = "FAILED", f"The pipeline did not end within {self._plan.timeout_ms / 1000:g} s."
        took_ms = round((time.perf_counter() - self._started) * 1000)
        with self._place.database.write() as connection:
            own(connection, self._run)
            return self._place.journal.finish_run(
                connection, self._run, state, error, self._scheduler.outputs, took_ms=took_ms
            )

    def _follow(self) -> None:
        """Record what the decider says, and take from the cache what can be, until only real work is left."""
        while True:
            changes = self._scheduler.take()
            self._record(changes)
            ready = [item for item in changes.ready if not self._is_elsewhere(item)]
            hits, failed = self._look_up(ready)
            if not hits and not failed:
                return
            self._reuse(hits)
            for item, error in failed:
                self._fail(item, self._tasks[item.address], error)

    def _record(self, changes: Changes) -> None:
        opened = [(loop, places) for loop, places in changes.opened if places and places[0].address not in self._known]
        skipped = {address: reason for address, reason in changes.skipped.items() if address not in self._left_out}
        if not (skipped or opened or changes.unrunnable or changes.canceled or changes.empty_loops):
            return
        journal, changed = self._place.journal, []
        with self._place.database.write() as connection:
            own(connection, self._run)
            self._open(connection, opened)
            for task, reason in self._waiting(skipped):
                changed.append(journal.skip_task(connection, task, reason))
            for task, _ in self._waiting(dict.fromkeys(changes.empty_loops, "")):
                now = self._place.journal.clock.now_ms()
                changed.append(journal.change(connection, task, state="COMPLETE", started_at=now, ended_at=now))
            for task, _ in self._waiting(dict.fromkeys(changes.canceled, "")):
                changed.append(journal.cancel_task(connection, self._run, task))
            for task, reason in self._waiting(changes.unrunnable):
                changed.append(journal.fail_task(connection, self._run, task, reason, retries=False))
        self._took_place(changed)

    def _open(self, connection: sa.Connection, opened: list[tuple[str, tuple[Place, ...]]]) -> None:
        """Record the tasks of iterations that begin; their loops have no row of their own any more."""
        if not opened:
            return
        placed = []
        for loop, places in opened:
            position = self._positions[loop]
            self._positions |= {place.address: position for place in places if place.task.loop is not None}
            placed.append((loop, position, places))
        rows = self._place.journal.open_loops(connection, self._run.id, placed)
        self._tasks |= {row.address: row for row in rows}
        self._total += len(rows)
        for loop, _ in opened:
            self._total -= self._tasks.pop(loop, None) is not None

    def _waiting(self, reasons: dict[str, str]) -> list[tuple[TaskRun, str]]:
        """Return the tasks that have not ended yet, each with its reason: after a restart some have."""
        return [(self._tasks[address], reason) for address, reason in reasons.items() if address in self._tasks]

    def _is_elsewhere(self, item: ReadyTask) -> bool:
        if item.address not in self._tasks:  # it ran with other inputs before its run was retried
            with self._place.database.read() as connection:
                (self._tasks[item.address],) = read_tasks(connection, self._run.id, [item.address])
            self._finished -= 1
        task = self._tasks[item.address]
        if task.state == "RUNNING":
            self._offers.adopt(item)
        elif task.due_ms is not None:
            wait_ms = task.due_ms - self._place.lease_clock.now_ms()
            self._not_before[item.address] = time.perf_counter() + wait_ms / 1000
        return task.state == "RUNNING"

    def _look_up(self, ready: list[ReadyTask]) -> tuple[list[tuple[ReadyTask, TaskRun]], list[tuple[ReadyTask, str]]]:
        """Return the tasks an earlier result stands in for, and those whose variables cannot be filled."""
        hits, failed = [], []
        with self._place.database.read() as connection:
            for item in ready:
                try:
                    decision = self._decide_cache(connection, item)
                except MainspringError as error:
                    failed.append((item, error.message))
                    continue
                self._keys[item.address] = (decision.key, decision.reason)
                if decision.found is not None:
                    hits.append((item, decision.found))
                else:
                    self._ready[item.address] = item
        return hits, failed

    def _decide_cache(self, connection: sa.Connection, item: ReadyTask) -> CacheDecision:
        if isinstance(item.task.body, Importer):
            return CacheDecision(key="", reason="an importer always looks")
        return decide_cache(
            connection,
            self._place.blobs,
            item,
            own_variables(item, self._job),
            use_cache=self._run.use_cache,
            is_first=not self._tasks[item.address].attempt,
        )

    def _reuse(self, hits: list[tuple[ReadyTask, TaskRun]]) -> None:
        if not hits:
            return
        with self._place.database.write() as connection:
            own(connection, self._run)
            changed = [
                self._place.journal.reuse_result(
                    connection, self._run, item, self._tasks[item.address], found, context=self._context,
                    cache=self._keys.pop(item.address)[1],
                )
                for item, found in hits
            ]  # fmt: skip
        self._took_place(changed)

    def _start_due(self) -> None:
        """Start what there is room for; importers are done at once."""
        imports = [item for item in self._ready.values() if isinstance(item.task.body, Importer)]
        if imports:
            for item in imports:
                self._import(self._ready.pop(item.address))
            self._follow()
        chosen = self._choose()
        if not chosen:
            return
        with self._place.database.write() as connection:
            own(connection, self._run)
            started = [self._begin(connection, item) for item, _ in chosen]
        self._took_place(started)
        for (item, weight), task in zip(chosen, started, strict=True):
            self._launch(item, task, weight)

    def _choose(self) -> list[tuple[ReadyTask, int]]:
        room = self._place.max_parallel - sum(attempt.weight for attempt in self._running.values())
        now, chosen = time.perf_counter(), []
        for address, item in self._ready.items():
            if room <= 0:
                break
            if self._not_before.get(address, 0.0) > now:
                continue
            weight = min(weight_of(item), self._place.max_parallel)
            if weight <= room:
                chosen.append((item, weight))
                room -= weight
        for item, _ in chosen:
            del self._ready[item.address]
            self._not_before.pop(item.address, None)
        return chosen

    def _begin(self, connection: sa.Connection, item: ReadyTask) -> TaskRun:
        key, reason = self._keys.pop(item.address, ("", ""))
        return self._place.journal.start_task(
            connection, self._run, item, self._tasks[item.address], context=self._context,
            owner=self._presence.id, cache_key=key, cache=reason,
        )  # fmt: skip

    def _import(self, item: ReadyTask) -> None:
        importer = item.task.body
        assert isinstance(importer, Importer)
        with self._place.database.write() as connection:
            own(connection, self._run)
            task = self._begin(connection, item)
        try:
            outputs = run_importer(importer, item.given, self._job, self._place.blobs, self._place.work_folder.parent)
        except (MainspringError, OSError) as error:
            self._fail(item, task, describe_failure(error))
            return
        with self._place.database.write() as connection:
            own(connection, self._run)
            done = self._place.journal.finish_task(connection, self._run, task, outputs)
        self._took_place([done])

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
            moments += [self._not_before[address] for address in self._ready if address in self._not_before]
        if len(self._offers):
            moments.append(now + _FOLLOW_SECONDS)
        timeout = max(0.0, min(moments) - now)
        if self._scheduler.state != "RUNNING":
            return
        if self._running:
            self._collect(self._place.launcher.wait(timeout))
        elif not self._startable(now):
            time.sleep(timeout)

    def _startable(self, now: float) -> bool:
        """Say whether something could start at once."""
        return self._place.max_parallel > 0 and any(
            self._not_before.get(address, 0.0) <= now for address in self._ready
        )

    def _collect(self, exits: list[TaskExit]) -> None:
        """Record how tasks ended: all in one transaction, and what they left is stored before it."""
        ended = [(self._running.pop(item.key), item) for item in exits if item.key in self._running]
        if not ended:
            return
        results = [(attempt, item, self._result(attempt, item)) for attempt, item in ended]
        with self._place.database.write() as connection:
            own(connection, self._run)
            changed = [self._settle(connection, attempt, item, result) for attempt, item, result in results]
        for (attempt, _), task in zip(ended, changed, strict=True):
            if task.state == "PENDING":
                self._ready[task.address] = attempt.ready
        self._took_place(changed)
        self._follow()

    def _result(self, attempt: Attempt, ended: TaskExit) -> Values | str:
        """Return the outputs of an attempt, or what went wrong."""
        if attempt.killed or ended.error:
            return attempt.killed or ended.error
        try:
            return outputs_of(self._place, self._run, attempt.ready, attempt.task)
        except (MainspringError, OSError, msgspec.DecodeError) as error:
            return describe_failure(error)

    def _settle(self, connection: sa.Connection, attempt: Attempt, ended: TaskExit, result: Values | str) -> TaskRun:
        journal, task = self._place.journal, attempt.task
        took_ms = round((time.perf_counter() - attempt.started) * 1000)
        if isinstance(result, Values):
            return journal.finish_task(connection, self._run, task, result, took_ms=took_ms, usage=ended.usage)
        if attempt.killed == _CANCELED:
            return journal.cancel_task(connection, self._run, task)
        losses = self._losses.get(task.address, 0)
        if ended.lost and not attempt.killed and losses < _MAX_LOSSES:
            self._losses[task.address] = losses + 1
            return journal.fail_task(connection, self._run, task, result, retries=True, counts=False)
        return self._record_failure(connection, attempt.ready, task, result, took_ms=took_ms, usage=ended.usage)

    def _record_failure(
        self,
        connection: sa.Connection,
        item: ReadyTask,
        task: TaskRun,
        error: str,
        *,
        took_ms: int | None = None,
        usage: TaskUsage | None = None,
    ) -> TaskRun:
        delay = None if self._wish else retry_delay(item.retry, task.failures + 1)
        due_ms = None
        if delay is not None:
            self._not_before[task.address] = time.perf_counter() + delay / 1000
            due_ms = self._place.lease_clock.now_ms() + delay
        return self._place.journal.fail_task(
            connection, self._run, task, error, retries=delay is not None, due_ms=due_ms, took_ms=took_ms, usage=usage
        )

    def _fail(self, item: ReadyTask, task: TaskRun, error: str) -> None:
        """Record that an attempt failed before it ran."""
        with self._place.database.write() as connection:
            own(connection, self._run)
            failed = self._record_failure(connection, item, task, error)
        if failed.state == "PENDING":
            self._ready[item.address] = item
        self._took_place([failed])

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
        with self._place.database.read() as connection:
            run = get_run(connection, self._run.id)
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
        waiting = {
            address: (item, *self._keys.get(address, ("", "")))
            for address, item in self._ready.items()
            if self._not_before.get(address, 0.0) <= time.perf_counter()
        }
        if waiting and not self._wish:
            for address in self._offers.offer(waiting):
                del self._ready[address]
        elif not self._ready:
            self._hear(self._offers.withdraw(self._place.max_parallel - len(self._running)))

    def _hear(self, heard: list[tuple[ReadyTask, TaskRun]]) -> None:
        """Go on with tasks that were elsewhere: they ended, or they are to run here."""
        for item, task in heard:
            if task.state == "PENDING":
                self._tasks[task.address] = task
                self._ready[task.address] = item
                if task.due_ms is not None:
                    wait_ms = task.due_ms - self._place.lease_clock.now_ms()
                    self._not_before[task.address] = time.perf_counter() + wait_ms / 1000
        self._took_place([task for _, task in heard])
        if heard:
            self._follow()

    def _cancel(self, wish: str) -> None:
        """Stop the run: what runs is killed, what waits does not start; exit tasks still run, unless ``KILLED``."""
        self._wish = wish
        self._scheduler.cancel()
        is_final = wish == "KILLED"
        for key, attempt in self._running.items():
            if (is_final or not is_exit_task(attempt.ready.task)) and not attempt.killed:
                self._kill(key, attempt, _CANCELED)
        waiting = [item for item in self._ready.values() if is_final or not is_exit_task(item.task)]
        with self._place.database.write() as connection:
            own(connection, self._run)
            changed = self._offers.cancel(connection, all_of_them=is_final)
            for item in waiting:
                changed.append(self._place.journal.cancel_task(connection, self._run, self._tasks[item.address]))
        for item in waiting:
            del self._ready[item.address]
        self._took_place(changed)
        self._follow()

    def _kill(self, key: str, attempt: Attempt, reason: str) -> None:
        attempt.killed = reason
        self._place.launcher.cancel(key)

    def _stop_and_renew(self) -> None:
        """Stop our own tasks, because others may take us for dead; go on when the lease is renewed and still ours."""
        log.warning("lease.stale run=%s worker=%s", self._run.id, self._presence.id)
        self._place.launcher.cancel_all()
        while self._presence.is_fenced:
            try:
                self._presence.renew()
            except (SQLAlchemyError, OSError):
                time.sleep(self._place.times.poll)
        attempts, self._running = list(self._running.values()), {}
        with self._place.database.write() as connection:
            own(connection, self._run)
            for attempt in attempts:
                task = self._place.journal.lose_task(connection, attempt.task)
                self._tasks[task.address] = msgspec.structs.replace(task, state="PENDING", execution_id=None)
                self._ready[task.address] = attempt.ready

    def _took_place(self, changed: list[TaskRun]) -> None:
        """Take note of how tasks stand, tell the decider about those that ended, and whoever watches about all."""
        for task in changed:
            if task.state in (*ENDED, "SKIPPED"):
                self._tasks.pop(task.address, None)
                self._keys.pop(task.address, None)
                self._finished += 1
                end = Recorded(state=task.state, outputs=task.outputs, error=task.error)
                self._scheduler.finish(task.address, end)
            else:
                self._tasks[task.address] = task
            self._tell(task)

    def _tell(self, task: TaskRun) -> None:
        if self._on_progress is not None:
            progress = TaskProgress(
                run_id=task.run_id,
                address=task.address,
                name=task.name,
                state=task.state,
                error=task.error,
                finished=self._finished,
                total=self._total,
                attempt=task.attempt,
            )
            self._on_progress(progress)
