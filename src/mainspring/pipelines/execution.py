"""One execution of a run: asks the decider what is next, starts it, waits, records, until the run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import MainspringError, to_iso
from mainspring.db import Database
from mainspring.pipelines.cache import cache_key, is_intact
from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.exchange import TaskFolder, hand_over, take_back
from mainspring.pipelines.journal import Journal
from mainspring.pipelines.launchers import Launcher, TaskExit, TaskLaunch
from mainspring.pipelines.plan import Plan, leaves
from mainspring.pipelines.records import PipelineRun, TaskRun, find_results, list_tasks
from mainspring.pipelines.schedule import ReadyTask, Recorded, Schedule, decide, retry_delay

_MAX_LOSSES = 3


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A task changed its state; ``finished`` of ``total`` tasks are done."""

    run_id: str
    address: str
    name: str
    state: str
    error: str
    finished: int
    total: int


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what an execution works."""

    database: Database
    blobs: LocalBlobs
    launcher: Launcher
    journal: Journal
    work_folder: Path
    environment: Mapping[str, str]
    max_parallel: int


class RunExecution:
    """The state of one execution in memory; everything that must outlive it is in the journal."""

    def __init__(
        self, workplace: Workplace, run: PipelineRun, plan: Plan, on_progress: Callable[[TaskProgress], None] | None
    ) -> None:
        self._place = workplace
        self._run = run
        self._plan = plan
        self._on_progress = on_progress
        with workplace.database.read() as connection:
            self._tasks = {task.address: task for task in list_tasks(connection, run.id)}
        self._plans = dict(leaves(plan.root))
        self._records = {address: _recorded(task) for address, task in self._tasks.items()}
        self._keys: dict[str, str] = {}
        self._not_before: dict[str, float] = {}
        self._losses: dict[str, int] = {}
        self._running: set[str] = set()
        self._started = time.perf_counter()
        self._launched: dict[str, float] = {}
        self._job = _job_of(run)

    def run(self) -> PipelineRun:
        """Run to the end; whatever happens, no task of this execution is left running."""
        try:
            while (decision := self._decide()).state == "RUNNING":
                if self._reuse(decision.ready):
                    continue
                self._start(self._startable(decision.ready))
                self._wait(decision.ready)
        finally:
            self._place.launcher.cancel_all()
        took_ms = round((time.perf_counter() - self._started) * 1000)
        with self._place.database.write() as connection:
            return self._place.journal.finish_run(
                connection, self._run, decision.state, decision.error, decision.outputs, took_ms=took_ms
            )

    def _decide(self) -> Schedule:
        decision = decide(self._plan, self._run.parameters, self._records, self._job)
        skipped = {
            address: reason for address, reason in decision.skipped.items() if self._records[address].state != "SKIPPED"
        }
        if skipped or decision.unrunnable:
            journal = self._place.journal
            with self._place.database.write() as connection:
                changed = [journal.skip_task(connection, self._tasks[key], reason) for key, reason in skipped.items()]
                changed += [
                    journal.fail_task(connection, self._run, self._tasks[key], reason, retries=False)
                    for key, reason in decision.unrunnable.items()
                ]
            self._took_place(changed)
        return decision

    def _reuse(self, ready: tuple[ReadyTask, ...]) -> bool:
        """Finish from the cache what can be; say whether anything was."""
        fresh = [item for item in ready if item.address not in self._keys]
        hits = [(item, found) for item in fresh if (found := self._find_result(item)) is not None]
        if hits:
            with self._place.database.write() as connection:
                changed = [
                    self._place.journal.reuse_result(connection, self._run, item, self._tasks[item.address], found)
                    for item, found in hits
                ]
            self._took_place(changed)
        return bool(hits)

    def _find_result(self, item: ReadyTask) -> TaskRun | None:
        component = item.task.body
        assert isinstance(component, PythonComponent)
        key = self._keys[item.address] = cache_key(item.task, component, item.inputs)
        if not (item.task.caches and self._run.use_cache) or self._tasks[item.address].attempt:
            return None
        with self._place.database.read() as connection:
            found = find_results(connection, key)
        return next((task for task in found if is_intact(self._place.blobs, task.outputs)), None)

    def _startable(self, ready: tuple[ReadyTask, ...]) -> list[ReadyTask]:
        now = time.perf_counter()
        due = [item for item in ready if self._not_before.get(item.address, 0.0) <= now]
        return due[: max(0, self._place.max_parallel - len(self._running))]

    def _start(self, items: list[ReadyTask]) -> None:
        if not items:
            return
        with self._place.database.write() as connection:
            started = [
                self._place.journal.start_task(
                    connection, self._run, item, self._tasks[item.address], self._keys[item.address]
                )
                for item in items
            ]
        self._took_place(started)
        for item, task in zip(items, started, strict=True):
            self._launch(item, task)

    def _launch(self, item: ReadyTask, task: TaskRun) -> None:
        component = item.task.body
        assert isinstance(component, PythonComponent)
        folder = self._folder(task)
        try:
            hand_over(folder, self._place.blobs, item.task.interface, item.inputs)
            folder.source.write_text(component.source)
        except (MainspringError, OSError) as error:
            self._fail(task, str(error))
            return
        self._running.add(task.address)
        self._launched[task.address] = time.perf_counter()
        self._place.launcher.launch(
            TaskLaunch(
                key=task.address,
                function=component.function,
                source=str(folder.source),
                executor_input=str(folder.executor_input),
                folder=str(folder.root / "work"),
                log=str(folder.log),
                error=str(folder.root / "error.txt"),
                environment=self._environment(task, component),
            )
        )

    def _wait(self, ready: tuple[ReadyTask, ...]) -> None:
        """Wait for a task to end, or for the next attempt of a failed one to be due."""
        waits = [self._not_before[item.address] for item in ready if item.address in self._not_before]
        free = len(self._running) < self._place.max_parallel
        timeout = max(0.0, min(waits) - time.perf_counter()) if waits and free else None
        if not self._running:
            time.sleep(timeout or 0.0)
            return
        for ended in self._place.launcher.wait(timeout):
            self._collect(ended)

    def _collect(self, ended: TaskExit) -> None:
        self._running.discard(ended.key)
        task = self._tasks[ended.key]
        if ended.lost and self._losses.get(ended.key, 0) < _MAX_LOSSES:
            self._losses[ended.key] = self._losses.get(ended.key, 0) + 1
            with self._place.database.write() as connection:
                lost = self._place.journal.fail_task(
                    connection, self._run, task, ended.error, retries=True, counts=False
                )
            self._took_place([lost])
        elif ended.error:
            self._fail(task, ended.error)
        else:
            self._finish(task)

    def _finish(self, task: TaskRun) -> None:
        interface = self._plans[task.address].interface
        owner = f"{self._run.pipeline}/{task.address}"
        try:
            outputs = take_back(self._folder(task), self._place.blobs, interface, owner)
        except (MainspringError, OSError, msgspec.DecodeError) as error:
            self._fail(task, str(error))
            return
        with self._place.database.write() as connection:
            done = self._place.journal.finish_task(connection, self._run, task, outputs, took_ms=self._took_ms(task))
        self._took_place([done])

    def _fail(self, task: TaskRun, error: str) -> None:
        delay = retry_delay(self._plans[task.address].retry, task.failures + 1)
        with self._place.database.write() as connection:
            failed = self._place.journal.fail_task(
                connection, self._run, task, error, retries=delay is not None, took_ms=self._took_ms(task)
            )
        if delay is not None:
            self._not_before[task.address] = time.perf_counter() + delay / 1000
        self._took_place([failed])

    def _took_ms(self, task: TaskRun) -> int | None:
        launched = self._launched.get(task.address)
        return None if launched is None else round((time.perf_counter() - launched) * 1000)

    def _took_place(self, changed: list[TaskRun]) -> None:
        for task in changed:
            self._tasks[task.address] = task
            self._records[task.address] = _recorded(task)
        if self._on_progress is None:
            return
        finished = sum(record.state not in ("PENDING", "RUNNING") for record in self._records.values())
        for task in changed:
            self._on_progress(
                TaskProgress(
                    run_id=task.run_id,
                    address=task.address,
                    name=task.name,
                    state=task.state,
                    error=task.error,
                    finished=finished,
                    total=len(self._tasks),
                )
            )

    def _folder(self, task: TaskRun) -> TaskFolder:
        return attempt_folder(self._place.work_folder, task)

    def _environment(self, task: TaskRun, component: PythonComponent) -> dict[str, str]:
        identity = {
            "mainspring.pipeline_run_id": task.run_id,
            "mainspring.execution_id": task.execution_id,
            "mainspring.task": task.address,
            "mainspring.event": self._run.started_event,
        }
        return {
            **self._place.environment,
            **component.environment,
            "MAINSPRING_RUN_ID": task.run_id,
            "MAINSPRING_EXECUTION_ID": task.execution_id or "",
            "MAINSPRING_TASK": task.address,
            "MLFLOW_RUN_CONTEXT": msgspec.json.encode(identity).decode(),
        }


def attempt_folder(work_folder: Path, task: TaskRun) -> TaskFolder:
    """Return the folder of a task's last attempt."""
    return TaskFolder(work_folder.absolute() / task.run_id / task.address / f"attempt-{task.attempt}")


def _recorded(task: TaskRun) -> Recorded:
    return Recorded(state=task.state, outputs=task.outputs, error=task.error)


def _job_of(run: PipelineRun) -> dict[str, Any]:
    created = to_iso(run.created_at)
    return {
        "run_id": run.id,
        "pipeline_job_name": f"{run.pipeline}-{run.id}",
        "pipeline_job_resource_name": f"{run.pipeline}-{run.id}",
        "pipeline_job_uuid": run.id,
        "pipeline_job_create_time_utc": created,
        "pipeline_job_schedule_time_utc": created,
    }
