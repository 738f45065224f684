"""The engine: creates runs of compiled pipelines, executes them or what is left of them, stops and retries them."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, Conflict, InvalidInput, NotFound, SystemClock, Unavailable, new_id
from mainspring.db import Database, Session, driver_errors
from mainspring.pipelines.attempt import Workplace, attempt_folder, end_attempt
from mainspring.pipelines.board import TaskProgress
from mainspring.pipelines.compile import CompiledPipeline
from mainspring.pipelines.component import Resources, read_resources
from mainspring.pipelines.execution import RunExecution
from mainspring.pipelines.forecast import Forecast, forecast
from mainspring.pipelines.importing import split_arguments, store_arguments
from mainspring.pipelines.ir import normalise_numbers
from mainspring.pipelines.journal import Journal, new_task
from mainspring.pipelines.launchers import Launcher
from mainspring.pipelines.leases import LeaseTimes, Presence, Watch, find_worker, is_alive
from mainspring.pipelines.patience import came_back, patient
from mainspring.pipelines.placeholders import has_placeholder
from mainspring.pipelines.plan import DagPlan, Importer, Plan, TaskPlan, leaves, places
from mainspring.pipelines.planner import make_plan
from mainspring.pipelines.plans import Plans
from mainspring.pipelines.records import (
    PipelineRun,
    get_run,
    get_task,
    hold_run,
    insert_run,
    list_tasks,
    update_run,
    update_task,
)
from mainspring.pipelines.values import Values, fit_arguments
from mainspring.pipelines.worker import find_plan, run_worker

_NOT_DONE = ("FAILED", "SKIPPED", "CANCELED", "OFFERED", "RUNNING")


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
        secrets_folder: Path | None = None,
        lease_clock: Clock | None = None,
        times: LeaseTimes | None = None,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._actor = actor
        self._work_folder = work_folder
        self._plans = Plans(blobs)
        times = times or LeaseTimes()
        self._place = Workplace(
            database=patient(database),
            blobs=blobs,
            launcher=launcher,
            journal=Journal(clock=clock, actor=actor, versions=_versions()),
            work_folder=work_folder,
            secrets_folder=secrets_folder or work_folder.parent,
            environment=dict(task_environment or {}),
            max_parallel=max_parallel,
            lease_clock=lease_clock or SystemClock(),
            times=times,
            watch=Watch(times),
        )

    @property
    def place(self) -> Workplace:
        """Where and with what this engine works."""
        return self._place

    def create_run(
        self,
        compiled: CompiledPipeline,
        *,
        pipeline: str,
        parameters: dict[str, Any],
        cause: str | None = None,
        code: dict[str, Any] | None = None,
        use_cache: bool = True,
        queued: bool = False,
    ) -> str:
        """Record a run and return its id; raise `InvalidInput` for whatever could not run, before anything starts.

        Artifacts are given among the parameters, as a path, a URI or ``{"uri": …, "metadata": {…}}``. A ``queued``
        run waits for any worker.
        """
        plan = make_plan(compiled.spec)
        warnings = self.check(plan)
        run = self._draft(plan, compiled, pipeline, parameters)
        run = msgspec.structs.replace(
            run,
            warnings=(*plan.warnings, *warnings),
            cause=cause,
            code=code or {},
            use_cache=use_cache,
            desired="RUNNING" if queued else "",
        )
        self._plans.keep(run.ir_digest, plan)
        tasks = [new_task(run.id, position, place) for position, place in enumerate(places(plan.root))]
        with self._database.write_session() as session:
            artifacts = self._place.journal.record_arguments(session, run)
            insert_run(session, msgspec.structs.replace(run, artifacts=artifacts), tasks)
        return run.id

    def forecast(
        self, compiled: CompiledPipeline, *, pipeline: str, parameters: dict[str, Any], use_cache: bool = True
    ) -> list[Forecast]:
        """Say for each task whether a run now would take it from the cache, run it, or cannot know yet; record nothing.

        Raises what `create_run` raises.
        """
        plan = make_plan(compiled.spec)
        self.check(plan)
        run = self._draft(plan, compiled, pipeline, parameters)
        return forecast(self._place, plan, msgspec.structs.replace(run, use_cache=use_cache))

    def _draft(self, plan: Plan, compiled: CompiledPipeline, pipeline: str, given: Mapping[str, Any]) -> PipelineRun:
        arguments, artifacts = self._arguments(plan, pipeline, given)
        return PipelineRun(
            id=new_id(self._clock),
            pipeline=pipeline,
            name=plan.name,
            state="PENDING",
            actor=self._actor,
            cause=None,
            ir_digest=self._blobs.put(compiled.ir),
            use_cache=True,
            execution_id=None,
            started_event=None,
            error="",
            created_at=self._clock.now_ms(),
            started_at=None,
            ended_at=None,
            parameters=arguments,
            artifacts=artifacts,
            code={},
            outputs=Values(),
            warnings=plan.warnings,
        )

    def _arguments(self, plan: Plan, pipeline: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], Values]:
        """Return the parameters and artifacts a pipeline is given; raise `InvalidInput` that names what is wrong."""
        owner = f"The pipeline {pipeline!r}"
        parameters, artifacts = split_arguments(normalise_numbers(dict(given)), plan.interface.artifacts, owner)
        fitted = fit_arguments(parameters, plan.interface.parameters, owner)
        return fitted, store_arguments(artifacts, plan.interface.artifacts, self._blobs, Path.cwd())

    def execute(self, run_id: str, *, on_progress: Callable[[TaskProgress], None] | None = None) -> PipelineRun:
        """Run, or go on with, a run until it has ended; tasks that are finished do not run again.

        Raises `Conflict` when another engine is at it. A run that has ended is returned as it is.
        """
        with self._database.session() as session:
            run = get_run(session, run_id)
        if run.state not in ("PENDING", "RUNNING"):
            return run
        plan = self._plans.get(run.ir_digest)
        while True:
            try:
                return self._go_on(run_id, plan, on_progress)
            except driver_errors() as error:
                if came_back(self._place.database, error):
                    continue  # what was recorded stands, what was not runs again
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise Unavailable(
                    f"What happens in run {run_id} cannot be recorded: {reason}.",
                    hint=f"Make the database work again (is the disk full?), then: mainspring resume {run_id}",
                ) from error

    def _go_on(self, run_id: str, plan: Plan, on_progress: Callable[[TaskProgress], None] | None) -> PipelineRun:
        place = self._place
        slots = place.max_parallel
        with Presence(self._database, place.lease_clock, self._work_folder, slots=slots, times=place.times) as here:
            with place.database.write_session() as session:
                begun = place.journal.begin_run(session, run_id, here, place.lease_clock)
            if plan.has_workspace:
                (self._work_folder.absolute() / run_id / "workspace").mkdir(parents=True, exist_ok=True)
            return RunExecution(place, begun, plan, here, on_progress).run()

    def work(self, stopping: threading.Event, *, on_progress: Callable[[TaskProgress], None] | None = None) -> None:
        """Run tasks that other engines offer, and runs that wait for anybody, until told to stop."""
        run_worker(
            self._place, lambda run_id: self.execute(run_id, on_progress=on_progress), stopping, on_progress=on_progress
        )

    def cancel(self, run_id: str, *, force: bool = False) -> PipelineRun:
        """Ask for a run to be stopped; one that nobody executes is canceled at once. ``force`` stops exit tasks too."""
        place = self._place
        with self._database.write_session() as session:
            run = hold_run(session, run_id)
            if run.state not in ("PENDING", "RUNNING"):
                raise Conflict(f"Run {run_id} has ended already: {run.state}.", hint="See: mainspring pipelines list")
            update_run(session, run_id, desired="KILLED" if force else "CANCELED")
            owner = find_worker(session, run.owner) if run.owner else None
            if run.state == "RUNNING" and is_alive(owner, place.lease_clock):
                return get_run(session, run_id)
            if run.state == "RUNNING":
                return self._cancel_abandoned(session, run)
            for task in list_tasks(session, run_id):
                place.journal.change(session, task, state="CANCELED", error="the run was canceled")
            update_run(session, run_id, state="CANCELED", ended_at=self._clock.now_ms(), desired="")
            return get_run(session, run_id)

    def _cancel_abandoned(self, session: Session, run: PipelineRun) -> PipelineRun:
        journal = self._place.journal
        update_run(session, run.id, token=run.token + 1)
        for task in list_tasks(session, run.id):
            if task.state in ("PENDING", "OFFERED", "RUNNING"):
                journal.cancel_task(session, run, task)
            if task.state == "RUNNING":
                end_attempt(self._place, task)
        return journal.finish_run(session, run, "CANCELED", "The run was canceled.", Values(), took_ms=0)

    def retry(self, run_id: str, *, queued: bool = False) -> int:
        """Make a run that ended badly go on: what failed, and what was left out because of it, waits again.

        Returns how many tasks wait; `execute` runs them. Tasks that are finished stay so, unless they get other
        inputs now, or ran because something before them had failed. A ``queued`` run waits for any worker.
        """
        with self._database.write_session() as session:
            run = hold_run(session, run_id)
            if run.state not in ("FAILED", "CANCELED"):
                raise Conflict(
                    f"Run {run_id} is {run.state}: there is nothing to retry.",
                    hint=f"Go on with it: mainspring resume {run_id}" if run.state in ("PENDING", "RUNNING") else "",
                )
            plan = self._plans.get(run.ir_digest)
            count = 0
            for task in list_tasks(session, run_id):
                if task.state in _NOT_DONE or _ran_after_failure(plan, task.address):
                    count += 1
                    update_task(
                        session, run_id, task.address, state="PENDING", failures=0, error="", due_ms=None,
                        ended_at=None,
                    )  # fmt: skip
            desired = "RUNNING" if queued else ""
            update_run(session, run_id, state="PENDING", error="", desired=desired, ended_at=None)
        return count

    def task_log(self, run_id: str, task: str) -> Path:
        """Return the path of the log of a task's last attempt; raise `NotFound` when it has none."""
        with self._database.session() as session:
            found = get_task(session, run_id, task)
        path = attempt_folder(self._work_folder, found).log
        if not path.is_file():
            raise NotFound(f"There is no log of the task {task!r} of run {run_id}.", hint=f"It is {found.state}.")
        return path

    def check(self, plan: Plan) -> tuple[str, ...]:
        """Return a warning per request that nobody enforces; raise `InvalidInput` with all the launcher cannot run."""
        launcher = self._place.launcher
        problems, warnings = dict[str, None](), dict[str, None]()
        for address, task in leaves(plan.root):
            if isinstance(task.body, DagPlan | Importer):
                continue
            resources = _requests(task)
            if reason := launcher.refuse(task.body, resources):
                problems[f"task {address}: {reason}"] = None
            elif (asked := resources.beside_cores) and not launcher.enforces_requests(task.body, resources):
                warnings[f"task {address}: it runs as a process of this machine, which does not enforce {asked}"] = None
        if problems:
            raise InvalidInput(
                f"The pipeline {plan.name!r} cannot run here: {'; '.join(problems)}.",
                hint="Install what is missing; nothing was started and nothing is installed for you.",
            )
        return tuple(warnings)


def _requests(task: TaskPlan) -> Resources:
    """Return what a task asks for, as far as it is known before the run."""
    return read_resources({name: value for name, value in task.resources.items() if not has_placeholder(value)})


def _ran_after_failure(plan: Plan, address: str) -> bool:
    return find_plan(plan.root, address).runs_after_failure


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("mainspring", "kfp"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
