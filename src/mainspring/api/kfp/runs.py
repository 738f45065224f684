"""Runs: every pipeline run of the store, wherever it was started; those of this API wait for a worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.api.kfp import experiments, pipelines
from mainspring.api.kfp.filters import Field
from mainspring.api.kfp.listing import Listing, select_page, usual_fields
from mainspring.api.kfp.tasks import STATES, history, show_tasks, status_of
from mainspring.api.kfp.wire import Call, moment, object_field, text_field, without_empty
from mainspring.automation.schedule_store import StoredSchedule, schedule_of_run, schedules_by_run
from mainspring.automation.training import open_engine
from mainspring.core import Conflict, InvalidInput, NotFound
from mainspring.db.tables.kfp import kfp_experiment
from mainspring.db.tables.kfp import kfp_run as table
from mainspring.lineage import Store
from mainspring.pipelines import (
    CompiledPipeline,
    Engine,
    LocalLauncher,
    PipelineRun,
    get_run,
    list_runs,
    list_tasks,
    read_compiled,
)

_MOST_LISTED = 10_000
_LONGEST_NAME = 512
_LONGEST_ACCOUNT = 256
_CONDITIONS = {"CANCELING": "Terminating", "CANCELED": "Failed"}
"""What ``status``, the older word for ``state``, is called where it is not the same word in small letters."""


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


class Listed(msgspec.Struct, frozen=True):
    """A run with what the API knows of it."""

    run: PipelineRun
    record: RunRecord

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.record.name or f"{self.run.pipeline} {self.run.id}"

    @property
    def state(self) -> str:
        """The state of the run, in the API's words."""
        return _state_of(self.run)


LISTING: Listing[Listed] = Listing(
    kind="run",
    id=lambda item: item.run.id,
    fields=usual_fields(
        Listed,
        "run",
        id=lambda item: item.run.id,
        name=lambda item: item.name,
        description=lambda item: item.record.description,
        created_at=lambda item: item.run.created_at,
    )
    | {
        "scheduled_at": Field(read=lambda item: item.run.created_at, kind="time"),
        "finished_at": Field(read=lambda item: item.run.ended_at, kind="time"),
        "storage_state": Field(read=lambda item: item.record.storage_state),
        "state": Field(read=lambda item: item.state),
        "status": Field(read=lambda item: _CONDITIONS.get(item.state, item.state.title())),
        "experiment_id": Field(read=lambda item: item.record.experiment_id),
        "recurring_run_id": Field(read=lambda item: item.record.schedule_id),
        "pipeline_id": Field(read=lambda item: item.record.pipeline_id),
    },
)


def create(store: Store, call: Call) -> dict[str, Any]:
    """Record a run; the next worker that is free executes it."""
    document = call.document()
    source = find_source(store, document)
    config = object_field(document, "runtime_config")
    given = RunRecord(
        run_id="",
        name=text_field(document, "display_name", _LONGEST_NAME),
        description=text_field(document, "description"),
        pipeline_id=source.pipeline_id,
        version_id=source.version_id,
        service_account=text_field(document, "service_account", _LONGEST_ACCOUNT),
        pipeline_root=text_field(config, "pipeline_root"),
    )
    experiment = text_field(document, "experiment_id") or call.text("experiment_id")
    with store.database.write() as connection:
        group = experiments.find(connection, experiment) if experiment else None
        group = group or experiments.default_experiment(connection, store.clock)
    run_id = engine_of(store).create_run(
        source.compiled, pipeline=source.compiled.name, parameters=object_field(config, "parameters"), queued=True
    )
    name = given.name or f"{source.compiled.name} {run_id}"
    record = msgspec.structs.replace(given, run_id=run_id, experiment_id=group.id, name=name)
    with store.database.write() as connection:
        connection.execute(sa.insert(table).values(**msgspec.to_builtins(record)))
        return show(store, connection, Listed(get_run(connection, run_id), record))


def list_(store: Store, call: Call) -> dict[str, Any]:
    """List runs: all, or those of an experiment."""
    experiment = call.text("experiment_id")
    with store.database.read() as connection:
        if experiment:
            experiments.find(connection, experiment)
        page = select_page(LISTING, call, of_experiment(connection, experiment))
        shown = [show(store, connection, item, details=False) for item in page.items]
    return {**without_empty({"runs": shown, "next_page_token": page.next_token}), "total_size": page.total}


def get(store: Store, call: Call) -> dict[str, Any]:
    """Return one run with its tasks."""
    with store.database.read() as connection:
        return show(store, connection, _find(connection, call.path["id"]))


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
    with store.database.write() as connection:
        keep_storage_state(connection, _find(connection, call.path["id"]).record, "ARCHIVED")
    return {}


def unarchive(store: Store, call: Call) -> dict[str, Any]:
    """Take a run out again, if its experiment is not put away."""
    with store.database.write() as connection:
        record = _find(connection, call.path["id"]).record
        query = sa.select(kfp_experiment.c.storage_state).where(kfp_experiment.c.id == record.experiment_id)
        if connection.execute(query).scalar() == "ARCHIVED":
            raise Conflict(
                f"The run {record.run_id} is in an experiment that is archived.",
                hint=f"First: Client.unarchive_experiment({record.experiment_id!r})",
            )
        keep_storage_state(connection, record, "AVAILABLE")
    return {}


def delete(store: Store, call: Call) -> dict[str, Any]:
    """Show a run no more, and stop it if it goes on; what it did stays on record."""
    with store.database.write() as connection:
        found = _find(connection, call.path["id"])
        keep_storage_state(connection, found.record, "DELETED")
    if found.run.ended_at is None:
        engine_of(store).cancel(found.run.id)
    return {}


def of_experiment(connection: sa.Connection, experiment: str = "") -> list[Listed]:
    """Return the runs of an experiment, or all."""
    records = {row["run_id"]: RunRecord(**row) for row in connection.execute(sa.select(table)).mappings()}
    started = schedules_by_run(connection)
    found = (
        Listed(run, records.get(run.id) or _record_of(run, started.get(run.id)))
        for run in list_runs(connection, _MOST_LISTED)
    )
    return [
        item
        for item in found
        if item.record.storage_state != "DELETED" and experiment in ("", item.record.experiment_id)
    ]


def keep_records(connection: sa.Connection, run_ids: Iterable[str]) -> None:
    """Write down what the API knows of runs only by their schedule, which is about to be forgotten."""
    for run_id in run_ids:
        known = connection.execute(sa.select(table.c.run_id).where(table.c.run_id == run_id)).scalar()
        if known is None:
            record = _record_of(get_run(connection, run_id), schedule_of_run(connection, run_id))
            connection.execute(sa.insert(table).values(**msgspec.to_builtins(record)))


def keep_storage_state(connection: sa.Connection, record: RunRecord, state: str) -> None:
    """Record whether a run is there, put away or deleted."""
    changed = msgspec.structs.replace(record, storage_state=state)
    connection.execute(sa.delete(table).where(table.c.run_id == record.run_id))
    connection.execute(sa.insert(table).values(**msgspec.to_builtins(changed)))


def engine_of(store: Store) -> Engine:
    """Open an engine that records runs; it starts nothing."""
    return open_engine(store, LocalLauncher(home=store.settings.home), tracking="")


def find_source(store: Store, document: dict[str, Any]) -> Source:
    """Return the compiled file a body names: one it carries, or a version that was uploaded."""
    spec, reference = document.get("pipeline_spec"), object_field(document, "pipeline_version_reference")
    if isinstance(spec, dict) and spec:
        return Source(compiled=read_compiled(pipelines.file_of(spec)))
    pipeline_id, version_id = text_field(reference, "pipeline_id"), text_field(reference, "pipeline_version_id")
    if not pipeline_id and not version_id:
        raise InvalidInput("The body names no pipeline.", hint="Send pipeline_spec or pipeline_version_reference.")
    with store.database.read() as connection:
        version = pipelines.find_version(connection, pipeline_id, version_id)
    compiled = read_compiled(store.blobs.read(version.ir_digest))
    return Source(compiled=compiled, pipeline_id=version.pipeline_id, version_id=version.id)


def show(store: Store, connection: sa.Connection, item: Listed, *, details: bool = True) -> dict[str, Any]:
    """Return a run as the API writes it."""
    run, record = item.run, item.record
    shown = {
        "run_id": run.id,
        "experiment_id": record.experiment_id,
        "display_name": item.name,
        "description": record.description,
        "storage_state": record.storage_state,
        "service_account": record.service_account,
        "recurring_run_id": record.schedule_id,
        "runtime_config": without_empty({"parameters": run.parameters, "pipeline_root": record.pipeline_root}),
        "created_at": moment(run.created_at),
        "scheduled_at": moment(run.created_at),
        "finished_at": moment(run.ended_at),
        "state": item.state,
        "error": status_of(run.error),
        "state_history": history(
            (run.created_at, "PENDING"), (run.started_at, "RUNNING"), (run.ended_at, item.state), error=run.error
        ),
    }
    if record.pipeline_id:
        reference = {"pipeline_id": record.pipeline_id, "pipeline_version_id": record.version_id}
        shown["pipeline_version_reference"] = reference
    elif details:
        shown["pipeline_spec"] = pipelines.spec_of(store, run.ir_digest)
    if details:
        shown["run_details"] = without_empty({"task_details": show_tasks(list_tasks(connection, run.id))})
    return without_empty(shown)


def _state_of(run: PipelineRun) -> str:
    if run.state in ("PENDING", "RUNNING") and run.desired in ("CANCELED", "KILLED"):
        return "CANCELING"
    return STATES.get(run.state, "RUNNING")


def _find(connection: sa.Connection, id: str) -> Listed:
    run = get_run(connection, id)
    row = connection.execute(sa.select(table).where(table.c.run_id == id)).mappings().first()
    record = RunRecord(**row) if row else _record_of(run, schedule_of_run(connection, id))
    if record.storage_state == "DELETED":
        raise NotFound(f"There is no pipeline run {id}.")
    return Listed(run, record)


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
