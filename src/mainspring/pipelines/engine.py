"""The engine: creates runs of compiled pipelines and executes them, or what is left of them."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, Conflict, InvalidInput, NotFound, new_id
from mainspring.db import Database
from mainspring.pipelines.compile import CompiledPipeline
from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.execution import RunExecution, TaskProgress, Workplace, attempt_folder
from mainspring.pipelines.ir import normalise_numbers, read_pipeline
from mainspring.pipelines.journal import Journal
from mainspring.pipelines.launchers import Launcher
from mainspring.pipelines.plan import Plan, TaskPlan, leaves, make_plan, waits_of
from mainspring.pipelines.records import PipelineRun, TaskRun, get_run, insert_run, list_tasks
from mainspring.pipelines.values import Values, fit_arguments


class Engine:
    """Runs pipelines on one machine. One execution at a time per launcher; open a second engine for a second run."""

    def __init__(
        self,
        database: Database,
        blobs: LocalBlobs,
        clock: Clock,
        *,
        launcher: Launcher,
        work_folder: Path,
        actor: str,
        task_environment: Mapping[str, str] | None = None,
        max_parallel: int = 2,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._launcher = launcher
        self._work_folder = work_folder
        self._actor = actor
        self._environment = dict(task_environment or {})
        self._max_parallel = max_parallel

    def create_run(
        self,
        compiled: CompiledPipeline,
        *,
        pipeline: str,
        parameters: dict[str, Any],
        cause: str | None = None,
        code: dict[str, Any] | None = None,
        use_cache: bool = True,
    ) -> str:
        """Record a run and return its id; raise `InvalidInput` for whatever could not run, before anything starts."""
        plan = make_plan(read_pipeline(compiled.ir))
        self._refuse(plan)
        owner = f"The pipeline {pipeline!r}"
        arguments = fit_arguments(normalise_numbers(parameters), plan.interface.parameters, owner)
        run = PipelineRun(
            id=new_id(self._clock),
            pipeline=pipeline,
            name=plan.name,
            state="PENDING",
            actor=self._actor,
            cause=cause,
            ir_digest=self._blobs.put(compiled.ir),
            use_cache=use_cache,
            execution_id=None,
            started_event=None,
            error="",
            created_at=self._clock.now_ms(),
            started_at=None,
            ended_at=None,
            parameters=arguments,
            code=code or {},
            outputs=Values(),
            warnings=plan.warnings,
        )
        waits = dict(waits_of(plan.root))
        tasks = [
            _new_task(run.id, position, address, task, upstream=waits[address])
            for position, (address, task) in enumerate(leaves(plan.root))
        ]
        with self._database.write() as connection:
            insert_run(connection, run, tasks)
        return run.id

    def execute(self, run_id: str, *, on_progress: Callable[[TaskProgress], None] | None = None) -> PipelineRun:
        """Run, or go on with, a run until it has ended; tasks that are finished do not run again.

        Raises `Conflict` when another engine is at it. A run that has ended is returned as it is.
        """
        with self._database.read() as connection:
            run = get_run(connection, run_id)
        if run.state not in ("PENDING", "RUNNING"):
            return run
        with self._lease(run_id):
            plan = make_plan(read_pipeline(self._blobs.read(run.ir_digest)))
            journal = Journal(clock=self._clock, actor=self._actor, versions=_versions())
            with self._database.write() as connection:
                run = journal.begin_run(connection, run_id)
            if run.state != "RUNNING":
                return run
            workplace = Workplace(
                database=self._database,
                blobs=self._blobs,
                launcher=self._launcher,
                journal=journal,
                work_folder=self._work_folder,
                environment=self._environment,
                max_parallel=self._max_parallel,
            )
            return RunExecution(workplace, run, plan, on_progress).run()

    def task_log(self, run_id: str, address: str) -> Path:
        """Return the path of the log of a task's last attempt; raise `NotFound` when it has none."""
        with self._database.read() as connection:
            tasks = {task.address: task for task in list_tasks(connection, run_id)}
        path = attempt_folder(self._work_folder, tasks[address]).log if address in tasks else None
        if path is None or not path.is_file():
            raise NotFound(f"There is no log of the task {address!r} of run {run_id}.", hint="Did the task run?")
        return path

    def _refuse(self, plan: Plan) -> None:
        problems = [
            f"task {address}: {reason}"
            for address, task in leaves(plan.root)
            if isinstance(task.body, PythonComponent) and (reason := self._launcher.refuse(task.body))
        ]
        if problems:
            raise InvalidInput(
                f"The pipeline {plan.name!r} cannot run here: {'; '.join(problems)}.",
                hint="Install what is missing; nothing was started and nothing is installed for you.",
            )

    @contextmanager
    def _lease(self, run_id: str) -> Iterator[None]:
        """Hold the run: the lock dies with this process, however it dies."""
        folder = self._work_folder / run_id
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"The run {run_id} is being executed by another process.", hint="Wait for it."
                ) from error
            yield
        finally:
            os.close(descriptor)


def _new_task(run_id: str, position: int, address: str, task: TaskPlan, *, upstream: tuple[str, ...]) -> TaskRun:
    assert isinstance(task.body, PythonComponent)
    return TaskRun(
        run_id=run_id,
        address=address,
        position=position,
        name=task.name,
        state="PENDING",
        attempt=0,
        failures=0,
        execution_id=None,
        cached_from=None,
        cache_key=None,
        component_digest=task.body.digest,
        error="",
        started_at=None,
        ended_at=None,
        upstream=upstream,
        inputs=Values(),
        outputs=Values(),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("mainspring", "kfp"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
