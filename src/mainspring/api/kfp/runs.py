"""Runs: every pipeline run of the store, wherever it was started; those of this API wait for a worker."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.api.kfp import experiments, pipelines
from mainspring.api.kfp.wire import Call, moment, object_field, page_of, text_field, wanted_name, without_empty
from mainspring.automation.schedule_store import StoredSchedule, schedule_of_run, schedules_by_run
from mainspring.automation.training import open_engine
from mainspring.core import InvalidInput, NotFound
from mainspring.db.tables.kfp import kfp_run as table
from mainspring.lineage import Store
from mainspring.pipelines import (
    CompiledPipeline,
    Engine,
    LocalLauncher,
    PipelineRun,
    TaskRun,
    get_run,
    list_runs,
    list_tasks,
    read_compiled,
)

_STATES = {
    "PENDING": "PENDING",
    "OFFERED": "PENDING",
    "RUNNING": "RUNNING",
    "REMOTE": "RUNNING",
    "COMPLETE": "SUCCEEDED",
    "CACHED": "SKIPPED",
    "SKIPPED": "SKIPPED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELED",
}
"""By our states; SKIPPED is the API's word for a result that was there already, too."""
_MOST_LISTED = 10_000


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the API knows of a run beside the run itself. ``storage_state`` is AVAILABLE, ARCHIVED or DELETED."""

    run_id: str
    experiment_id: str = ""
    name: str = ""
    description: str = ""
    pipeline_id: str = ""
    version_id: str = ""
    schedule_id: str = ""
    service_account: str = ""
    pipeline_root: str = ""
    storage_state: str = "AVAILABLE"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The compiled file a body names, and the version it is, if it is one."""

    compiled: CompiledPipeline
    pipeline_id: str = ""
    version_id: str = ""


def create(store: Store, call: Call) -> dict[str, Any]:
    """Record a run; the next worker that is free executes it."""
    document = call.document()
    source = find_source(store, document)
    config = object_field(document, "runtime_config")
    experiment = text_field(document, "experiment_id") or call.query.get("experiment_id", "")
    with store.database.write() as connection:
        group = experiments.find(connection, experiment) if experiment else None
        group = group or experiments.default_experiment(connection, store.clock)
    run_id = engine_of(store).create_run(
        source.compiled, pipeline=source.compiled.name, parameters=object_field(config, "parameters"), queued=True
    )
    record = RunRecord(
        run_id=run_id,
        experiment_id=group.id,
        name=text_field(document, "display_name") or f"{source.compiled.name} {run_id}",
        description=text_field(document, "description"),
        pipeline_id=source.pipeline_id,
        version_id=source.version_id,
        service_account=text_field(document, "service_account"),
        pipeline_root=text_field(config, "pipeline_root"),
    )
    with store.database.write() as connection:
        connection.execute(sa.insert(table).values(**msgspec.to_builtins(record)))
        return show(store, connection, get_run(connection, run_id), record)


def list_(store: Store, call: Call) -> dict[str, Any]:
    """List runs, newest first: all, those of an experiment, or those of a name."""
    name, experiment = wanted_name(call), call.query.get("experiment_id", "")
    with store.database.read() as connection:
        records = {row["run_id"]: RunRecord(**row) for row in connection.execute(sa.select(table)).mappings()}
        started = schedules_by_run(connection)
        found = []
        for run in list_runs(connection, _MOST_LISTED):
            record = records.get(run.id) or _record_of(run, started.get(run.id))
            fits = name in (None, record.name) and experiment in ("", record.experiment_id)
            if fits and record.storage_state != "DELETED":
                found.append((run, record))
        page, token = page_of(call, found)
        shown = [show(store, connection, run, record, details=False) for run, record in page]
    return {**without_empty({"runs": shown, "next_page_token": token}), "total_size": len(found)}


def get(store: Store, call: Call) -> dict[str, Any]:
    """Return one run with its tasks."""
    with store.database.read() as connection:
        run, record = _find(connection, call.path["id"])
        return show(store, connection, run, record)


def terminate(store: Store, call: Call) -> dict[str, Any]:
    """Stop a run."""
    with store.database.read() as connection:
        _find(connection, call.path["id"])
    engine_of(store).cancel(call.path["id"])
    return {}


def retry(store: Store, call: Call) -> dict[str, Any]:
    """Let a run that ended badly go on; what is finished does not run again."""
    with store.database.read() as connection:
        _find(connection, call.path["id"])
    engine_of(store).retry(call.path["id"], queued=True)
    return {}


def archive(store: Store, call: Call) -> dict[str, Any]:
    """Put a run away."""
    return _store(store, call, "ARCHIVED")


def unarchive(store: Store, call: Call) -> dict[str, Any]:
    """Take a run out again."""
    return _store(store, call, "AVAILABLE")


def delete(store: Store, call: Call) -> dict[str, Any]:
    """Show a run no more; what it did stays on record."""
    return _store(store, call, "DELETED")


def engine_of(store: Store) -> Engine:
    """Open an engine that records runs; it starts nothing."""
    return open_engine(store, LocalLauncher(home=store.settings.home), tracking="")


def find_source(store: Store, document: dict[str, Any]) -> Source:
    """Return the compiled file a body names: one it carries, or a version that was uploaded."""
    spec, reference = document.get("pipeline_spec"), object_field(document, "pipeline_version_reference")
    if isinstance(spec, dict) and spec:
        return Source(compiled=read_compiled(pipelines.file_of(spec)))
    pipeline_id, version_id = text_field(reference, "pipeline_id"), text_field(reference, "pipeline_version_id")
    if not pipeline_id:
        raise InvalidInput("The body names no pipeline.", hint="Send pipeline_spec or pipeline_version_reference.")
    with store.database.read() as connection:
        version = pipelines.find_version(connection, pipeline_id, version_id)
    compiled = read_compiled(store.blobs.read(version.ir_digest))
    return Source(compiled=compiled, pipeline_id=pipeline_id, version_id=version.id)


def show(
    store: Store, connection: sa.Connection, run: PipelineRun, record: RunRecord, *, details: bool = True
) -> dict[str, Any]:
    """Return a run as the API writes it."""
    state = _state_of(run)
    reference = {"pipeline_id": record.pipeline_id, "pipeline_version_id": record.version_id}
    shown = {
        "run_id": run.id,
        "experiment_id": record.experiment_id,
        "display_name": record.name or f"{run.pipeline} {run.id}",
        "description": record.description,
        "storage_state": record.storage_state,
        "service_account": record.service_account,
        "recurring_run_id": record.schedule_id,
        "runtime_config": without_empty({"parameters": run.parameters, "pipeline_root": record.pipeline_root}),
        "created_at": moment(run.created_at),
        "scheduled_at": moment(run.created_at),
        "finished_at": moment(run.ended_at),
        "state": state,
        "error": {"code": 13, "message": run.error} if run.error else None,
        "state_history": _history(run, state),
    }
    if record.pipeline_id:
        shown["pipeline_version_reference"] = reference
    elif details:
        shown["pipeline_spec"] = pipelines.spec_of(store, run.ir_digest)
    if details:
        tasks = [_show_task(task) for task in list_tasks(connection, run.id)]
        shown["run_details"] = without_empty({"task_details": tasks})
    return without_empty(shown)


def _show_task(task: TaskRun) -> dict[str, Any]:
    state = _STATES.get(task.state, "RUNNING")
    return without_empty(
        {
            "run_id": task.run_id,
            "task_id": f"{task.run_id}/{task.address}",
            "display_name": task.name,
            "create_time": moment(task.started_at),
            "start_time": moment(task.started_at),
            "end_time": moment(task.ended_at),
            "state": state,
            "execution_id": "",
            "error": {"code": 13, "message": task.error} if task.error and state != "SKIPPED" else None,
        }
    )


def _state_of(run: PipelineRun) -> str:
    if run.state in ("PENDING", "RUNNING") and run.desired in ("CANCELED", "KILLED"):
        return "CANCELING"
    return _STATES.get(run.state, "RUNNING")


def _history(run: PipelineRun, state: str) -> list[dict[str, Any]]:
    found = [{"update_time": moment(run.created_at), "state": "PENDING"}]
    if run.started_at is not None:
        found.append({"update_time": moment(run.started_at), "state": "RUNNING"})
    if run.ended_at is not None:
        found.append({"update_time": moment(run.ended_at), "state": state})
    return found


def _find(connection: sa.Connection, id: str) -> tuple[PipelineRun, RunRecord]:
    run = get_run(connection, id)
    row = connection.execute(sa.select(table).where(table.c.run_id == id)).mappings().first()
    record = RunRecord(**row) if row else _record_of(run, schedule_of_run(connection, id))
    if record.storage_state == "DELETED":
        raise NotFound(f"There is no pipeline run {id}.")
    return run, record


def _record_of(run: PipelineRun, found: StoredSchedule | None) -> RunRecord:
    """Return what there is to say of a run this API did not start: what its schedule says, if it has one."""
    if found is None:
        return RunRecord(run_id=run.id, name=f"{run.pipeline} {run.id}")
    details = found.details
    return RunRecord(
        run_id=run.id,
        experiment_id=str(details.get("experiment_id", "")),
        name=f"{found.name} {run.id}",
        pipeline_id=str(details.get("pipeline_id", "")),
        version_id=str(details.get("version_id", "")),
        schedule_id=found.id,
    )


def _store(store: Store, call: Call, state: str) -> dict[str, Any]:
    with store.database.write() as connection:
        _, record = _find(connection, call.path["id"])
        changed = msgspec.structs.replace(record, storage_state=state)
        connection.execute(sa.delete(table).where(table.c.run_id == record.run_id))
        connection.execute(sa.insert(table).values(**msgspec.to_builtins(changed)))
    return {}
