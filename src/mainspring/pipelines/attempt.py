"""One attempt of a task: from its inputs to files, variables and a launch; from what it left to outputs."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, InvalidInput, to_iso
from mainspring.pipelines.component import Component, PythonComponent, read_resources
from mainspring.pipelines.exchange import TaskFolder, hand_over, take_back
from mainspring.pipelines.journal import Journal
from mainspring.pipelines.launchers import Launcher, TaskLaunch
from mainspring.pipelines.leases import LeaseTimes, Watch
from mainspring.pipelines.patience import Store
from mainspring.pipelines.placeholders import Lookup, expand_variables, fill_placeholders, fill_words, text_of
from mainspring.pipelines.plan import DagPlan, Importer
from mainspring.pipelines.records import PipelineRun, TaskRun
from mainspring.pipelines.schedule import ReadyTask
from mainspring.pipelines.strays import end_strays
from mainspring.pipelines.values import Values


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what an execution works."""

    database: Store
    blobs: LocalBlobs
    launcher: Launcher
    journal: Journal
    work_folder: Path
    secrets_folder: Path
    """``secrets/NAME/KEY`` and ``config-maps/NAME/KEY`` are files below it."""
    environment: Mapping[str, str]
    max_parallel: int
    lease_clock: Clock
    times: LeaseTimes
    watch: Watch


class Attempt(msgspec.Struct, kw_only=True):
    """A task that runs here."""

    ready: ReadyTask
    task: TaskRun
    weight: int
    started: float
    deadline: float | None = None
    killed: str = ""
    """Why it was ended from here."""


def attempt_folder(work_folder: Path, task: TaskRun) -> TaskFolder:
    """Return the folder of a task's last attempt."""
    return TaskFolder(work_folder.absolute() / task.run_id / task.address / f"attempt-{task.attempt}")


def job_of(run: PipelineRun, work_folder: Path) -> dict[str, str]:
    """Return what the placeholders of the job mean in a run."""
    created = to_iso(run.created_at)
    root = work_folder.absolute() / run.id
    name = f"{run.pipeline}-{run.id}"
    return {
        "run_id": run.id,
        "pipeline_job_name": name,
        "pipeline_job_resource_name": name,
        "pipeline_job_uuid": run.id,
        "pipeline_job_create_time_utc": created,
        "pipeline_job_schedule_time_utc": created,
        "pipeline_root": str(root),
        "workspace_path": str(root / "workspace"),
    }


def own_variables(ready: ReadyTask, job: Mapping[str, str]) -> dict[str, str]:
    """Return the variables a component sets, each filled in; raise `InvalidInput` that names the variable."""
    component = component_of(ready)
    names = {**job, "pipeline_task_name": ready.task.name}
    lookup = Lookup(parameters=ready.task.interface.with_defaults(ready.given), job=names)
    filled: dict[str, str] = {}
    for name, value in component.environment.items():
        try:
            filled[name] = expand_variables(text_of(fill_placeholders(value, lookup)), filled)
        except InvalidInput as error:
            raise InvalidInput(f"Its environment variable {name}: {error.message}") from error
    return filled


def component_of(ready: ReadyTask) -> Component:
    """Return what a task that a launcher starts runs."""
    body = ready.task.body
    assert not isinstance(body, DagPlan | Importer)
    return body


def prepare(place: Workplace, run: PipelineRun, ready: ReadyTask, task: TaskRun, key: str) -> TaskLaunch:
    """Write the files of an attempt and return its launch; raise `MainspringError` or OSError that says what failed."""
    component, job = component_of(ready), job_of(run, place.work_folder)
    folder = attempt_folder(place.work_folder, task)
    executor_input = hand_over(folder, place.blobs, ready.task.interface, ready.inputs)
    lookup = Lookup(
        parameters=ready.task.interface.with_defaults(ready.given),
        job={**job, "pipeline_task_name": task.name, "pipeline_task_uuid": f"{run.id}/{task.address}"},
        executor_input=executor_input,
    )
    if isinstance(component, PythonComponent):
        folder.source.write_text(component.source)
    else:
        command, args = fill_words(component.command, lookup), fill_words(component.args, lookup)
        component = msgspec.structs.replace(component, command=command, args=args)
        _make_parents(folder, ready)
    return TaskLaunch(
        key=key,
        component=component,
        source=str(folder.source) if isinstance(component, PythonComponent) else "",
        executor_input=str(folder.executor_input),
        folder=str(folder.root / "work"),
        log=str(folder.log),
        error=str(folder.root / "error.txt"),
        environment=_environment(place, run, ready, task, job),
        resources=read_resources(fill_placeholders(dict(ready.task.resources), lookup)),
    )


def end_attempt(place: Workplace, task: TaskRun) -> None:
    """Kill what may be left of a task's last attempt, whose launcher, worker or engine is dead."""
    end_strays(attempt_folder(place.work_folder, task).root, task.execution_id)


def outputs_of(place: Workplace, run: PipelineRun, ready: ReadyTask, task: TaskRun) -> Values:
    """Read and store what an attempt left; raise `MainspringError`, OSError or DecodeError that says what failed."""
    owner = f"{run.pipeline}/{task.address}"
    try:
        return take_back(attempt_folder(place.work_folder, task), place.blobs, ready.task.interface, owner)
    except UnicodeError as error:
        raise InvalidInput(f"What it produced is not text in UTF-8: {error}.") from error
    except RecursionError as error:
        raise InvalidInput("What it produced is nested too deep.", hint="Write it to an artifact.") from error


def describe_failure(error: Exception) -> str:
    """Say in one line what went wrong around a task, with the remedy where there is one."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" at {error.filename}" if error.filename else ""
        return f"The disk is full{where}: free some space, then retry the run."
    if isinstance(error, msgspec.ValidationError):
        return f"Its executor output is malformed: {error}."
    if isinstance(error, msgspec.DecodeError):
        return f"Its executor output is not JSON: {error}."
    return str(error)


def _environment(
    place: Workplace, run: PipelineRun, ready: ReadyTask, task: TaskRun, job: Mapping[str, str]
) -> dict[str, str]:
    identity = {
        "mainspring.pipeline_run_id": task.run_id,
        "mainspring.execution_id": task.execution_id,
        "mainspring.task": task.address,
        "mainspring.event": run.started_event,
    }
    return {
        **place.environment,
        **_secret_variables(place, ready),
        **own_variables(ready, job),
        "MAINSPRING_RUN_ID": task.run_id,
        "MAINSPRING_EXECUTION_ID": task.execution_id or "",
        "MAINSPRING_TASK": task.address,
        "MLFLOW_RUN_CONTEXT": msgspec.json.encode(identity).decode(),
    }


def _secret_variables(place: Workplace, ready: ReadyTask) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in ready.task.platform.variables:
        path = _store_path(place, item.store, ready.given.get(item.input)) / _plain(item.key)
        try:
            found[item.variable] = path.read_text()
        except OSError as error:
            if not item.optional:
                raise InvalidInput(
                    f"Its variable {item.variable} comes from {path}, which cannot be read: {error.strerror}.",
                    hint="Write the value into that file.",
                ) from error
    return found


def show_folders(place: Workplace, run: PipelineRun, ready: ReadyTask) -> list[Path]:
    """Make secrets, config maps and empty folders appear where a task expects them; return the links that were made.

    Raises `InvalidInput` when something else is there already: it belongs to somebody.
    """
    made = []
    for item in ready.task.platform.folders:
        target = _store_path(place, item.store, ready.given.get(item.input))
        if target.is_dir():
            made += _link(Path(item.path), target)
        elif not item.optional:
            raise InvalidInput(f"There is no folder {target} to show at {item.path}.", hint="Make it, a file per key.")
    for path in ready.task.platform.empty_folders:
        name = hashlib.sha256(path.encode()).hexdigest()[:16]
        target = place.work_folder.absolute() / run.id / "empty" / name
        target.mkdir(parents=True, exist_ok=True)
        made += _link(Path(path), target)
    return made


def _link(path: Path, target: Path) -> list[Path]:
    if path.is_symlink() and path.readlink() == target:
        return []
    try:
        if path.is_symlink() and not path.exists():
            path.unlink()  # what a run that was killed left behind
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    except OSError as error:
        raise InvalidInput(
            f"{target} cannot be shown at {path}: {error.strerror}.",
            hint="Remove what is there, or mount it elsewhere.",
        ) from error
    return [path]


def _store_path(place: Workplace, store: str, name: object) -> Path:
    return place.secrets_folder / store / _plain(str(name or ""))


def _plain(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise InvalidInput(f"{name!r} is not the name of a secret, a config map or a key.", hint="Check its settings.")
    return name


def _make_parents(folder: TaskFolder, ready: ReadyTask) -> None:
    """Make the folders a container's command writes its outputs into, as KFP's launcher does."""
    for name in ready.task.interface.output_parameters:
        folder.parameter(name).parent.mkdir(parents=True, exist_ok=True)


def late(item: ReadyTask) -> str:
    """Say that a task took longer than it may."""
    return f"It did not end within {item.task.platform.timeout_ms / 1000:g} s (activeDeadlineSeconds) and was killed."
