"""Triggers become pipeline runs, one at a time, beside the controller loop."""

from __future__ import annotations

import logging
import platform
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from mainspring.automation.canaries import adopt_version
from mainspring.automation.triggers import Trigger, attach_run, claim_next, finish, list_triggers
from mainspring.core import InvalidInput, MainspringError, NotFound, Unavailable
from mainspring.core.project import FILE_NAME, PipelineConfig
from mainspring.datasets import latest_snapshot
from mainspring.lineage import Store, record_event
from mainspring.pipelines import (
    Engine,
    Launcher,
    PipelineRun,
    ProcessLauncher,
    compile_pipeline,
    task_environment,
)
from mainspring.registry import PIPELINE_RUN_TAG, list_versions, resolve_alias

SERVER_FILE = "server.json"
log = logging.getLogger("mainspring.training")


class Trainer:
    """Runs one pipeline at a time in a thread; what it was doing is in the store, so a new trainer goes on with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._launcher = ProcessLauncher(log=store.settings.home / "logs" / "zygote.log")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="trainer")
        self._current: tuple[Trigger, Future[PipelineRun]] | None = None
        with store.database.read() as connection:
            self._interrupted = list_triggers(connection, states=("RUNNING",))

    def __enter__(self) -> Trainer:
        self._launcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._launcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def is_busy(self) -> bool:
        """Whether a pipeline is running."""
        return self._current is not None

    def tend(self) -> bool:
        """Settle a run that has ended, start the next trigger's; return whether one is running."""
        if self._current is not None:
            trigger, future = self._current
            if not future.done():
                return True
            self._current = None
            self._settle(trigger, future)
        if not (self._store.settings.home / SERVER_FILE).is_file():
            return bool(self._interrupted)  # tasks log to the server: wait until it is there
        due = self._interrupted.pop() if self._interrupted else self._claim()
        if due is None:
            return False
        self._current = (due, self._pool.submit(run_trigger, self._store, self._launcher, due))
        return True

    def _claim(self) -> Trigger | None:
        """Take the next trigger."""
        with self._store.database.read() as connection:
            if not list_triggers(connection, states=("PENDING",), limit=1):
                return None
        with self._store.database.write() as connection:
            return claim_next(connection, self._store.clock)

    def _settle(self, trigger: Trigger, future: Future[PipelineRun]) -> None:
        store, error = self._store, future.exception()
        if isinstance(error, MainspringError):
            log.error("training.failed trigger=%s message=%s hint=%s", trigger.id, error.message, error.hint)
        elif error is not None:
            log.error("training.failed trigger=%s", trigger.id, exc_info=error)
        run = None if error is not None else future.result()
        succeeded = run is not None and run.state == "COMPLETE"
        with store.database.write() as connection:
            finish(connection, store.clock, trigger.id, "DONE" if succeeded else "FAILED")
            if not succeeded:
                reason = str(error) if error is not None else run.error if run is not None else ""
                record_event(
                    connection, store.clock, "alert.raised", source="automation", subject=trigger.pipeline,
                    cause=trigger.event, data={"reason": f"Training failed: {reason}", "run": run.id if run else None},
                )  # fmt: skip


def run_trigger(store: Store, launcher: Launcher, trigger: Trigger) -> PipelineRun:
    """Start, or go on with, the pipeline run a trigger asks for, and put what it registers on its way."""
    run_id = trigger.run_id
    engine = open_engine(store, launcher)
    if run_id is None:
        run_id = create_run(store, engine, trigger.pipeline, {}, cause=trigger.event)
        with store.database.write() as connection:
            attach_run(connection, trigger.id, run_id)
    run = engine.execute(run_id)
    if run.state == "COMPLETE":
        adopt_result(store, run)  # before the trigger ends: after a crash in between it is done again, to no harm
    return run


def open_engine(store: Store, launcher: Launcher, *, tracking: str | None = None) -> Engine:
    """Make an engine whose tasks find this project's store and log to its server (at ``tracking``, if given)."""
    return Engine(
        store.database,
        store.blobs,
        store.clock,
        launcher=launcher,
        work_folder=store.settings.home / "work",
        secrets_folder=store.settings.secrets_folder,
        actor=store.actor,
        task_environment=task_environment(
            store.settings, tracking_url=tracking_url(store) if tracking is None else tracking
        ),
    )


def create_run(
    store: Store, engine: Engine, pipeline: str, parameters: dict[str, Any], *, cause: str | None = None,
    use_cache: bool = True,
) -> str:  # fmt: skip
    """Compile a pipeline of the project and record a run of it, every moving name pinned to what it means now."""
    config = find_pipeline(store, pipeline)
    compiled = compile_pipeline(store.folder, config.file, config.function, store.settings.home / "compiled")
    arguments = pin_parameters(store, {**config.parameters, **parameters})
    return engine.create_run(
        compiled, pipeline=pipeline, parameters=arguments, cause=cause, code=describe_code(store), use_cache=use_cache
    )


def find_pipeline(store: Store, name: str) -> PipelineConfig:
    """Return a pipeline's configuration; raise `NotFound` that names the ones there are."""
    if name not in store.project.pipelines:
        known = ", ".join(store.project.pipelines) or "none"
        raise NotFound(f"The project has no pipeline {name!r}.", hint=f"Pipelines in mainspring.yaml: {known}.")
    return store.project.pipelines[name]


def pin_parameters(store: Store, parameters: dict[str, Any]) -> dict[str, Any]:
    """Replace ``dataset://NAME/latest`` and ``models:/NAME@ALIAS`` by the snapshot and version they mean now.

    An alias that points nowhere yet becomes the empty string: there is no such version to compare with.
    """
    return {name: _pin(store, value) if isinstance(value, str) else value for name, value in parameters.items()}


def _pin(store: Store, value: str) -> str:
    with store.database.read() as connection:
        if value.startswith("dataset://") and value.endswith("/latest"):
            dataset = value.removeprefix("dataset://").removesuffix("/latest")
            snapshot = latest_snapshot(connection, dataset)
            if snapshot is None:
                raise InvalidInput(f"Dataset {dataset} has no snapshot yet.", hint="Run: mainspring data snapshot")
            return f"dataset://{dataset}/{snapshot.id}"
        if value.startswith("models:/") and "@" in value:
            model, _, alias = value.removeprefix("models:/").partition("@")
            version = resolve_alias(connection, model, alias)
            return f"models:/{model}/{version.version}" if version else ""
    return value


def describe_code(store: Store) -> dict[str, Any]:
    """Name the code a run uses: the project's files and the installed packages by digest, and its git commit."""
    files = {
        path.relative_to(store.folder).as_posix(): store.blobs.put_file(path)
        for path in sorted(store.folder.rglob("*.py"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(store.folder).parts)
    }
    without_settings = msgspec.structs.replace(store.project, settings={})  # they may hold secrets
    files[FILE_NAME] = store.blobs.put(msgspec.json.encode(without_settings))
    digest = store.blobs.put(msgspec.json.encode(files))
    environment = store.blobs.put("\n".join(installed_packages()).encode())
    return {"digest": digest, "files": files, "environment": environment, **_git_state(store.folder)}


@cache
def installed_packages() -> tuple[str, ...]:
    """Return the interpreter and every installed package with its version: the environment runs execute in."""
    packages = {f"{found.name}=={found.version}" for found in metadata.distributions()}
    return (f"python=={platform.python_version()}", *sorted(packages, key=str.lower))


def _git_state(folder: Path) -> dict[str, Any]:
    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603
                ["git", "-C", str(folder), *words],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    if commit is None or ask("ls-files", "--error-unmatch", FILE_NAME) is None:
        return {}  # a repository that does not hold the project says nothing about its code
    return {"git_commit": commit, "git_dirty": bool(ask("status", "--porcelain", "--", "."))}


def tracking_url(store: Store) -> str:
    """Return where the project's server listens; raise `Unavailable` if it does not run."""
    path = store.settings.home / SERVER_FILE
    try:
        return str(msgspec.json.decode(path.read_bytes())["url"])
    except (OSError, msgspec.DecodeError, KeyError) as error:
        raise Unavailable("The project's server is not running.", hint="Start it with: mainspring up") from error


def adopt_result(store: Store, run: PipelineRun) -> None:
    """Put the version a pipeline run registered, if it did, on its way to the endpoints of its model."""
    for name, endpoint in store.project.endpoints.items():
        with store.database.read() as connection:
            versions = list_versions(connection, endpoint.model)
        made = [version for version in versions if version.tags.get(PIPELINE_RUN_TAG) == run.id]
        if made:
            adopt_version(store, name, made[0], cause=run.started_event)
