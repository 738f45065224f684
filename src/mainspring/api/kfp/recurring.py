"""Recurring runs: schedules of compiled files."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.api.kfp import experiments, pipelines
from mainspring.api.kfp.filters import Field
from mainspring.api.kfp.listing import Listing, select_page, usual_fields
from mainspring.api.kfp.runs import Source, engine_of, find_source, keep_records
from mainspring.api.kfp.wire import Call, moment, object_field, text_field, without_empty
from mainspring.automation.macros import Macros
from mainspring.automation.recurring import require_schedule
from mainspring.automation.schedule_store import (
    State,
    StoredSchedule,
    delete_schedule,
    list_schedules,
    put_schedule,
    runs_of_schedule,
    set_state,
)
from mainspring.automation.schedules import Schedule, check_schedule
from mainspring.core import InvalidInput, to_ms
from mainspring.lineage import Store

_SOURCE = "kfp"
_MOST_CONCURRENT = 10
_LONGEST_NAME = 256


def _status_of(found: StoredSchedule) -> str:
    return "ENABLED" if found.state == "ENABLED" else "DISABLED"


LISTING: Listing[StoredSchedule] = Listing(
    kind="recurring_run",
    id=lambda item: item.id,
    fields=usual_fields(
        StoredSchedule,
        "recurring_run",
        id=lambda item: item.id,
        name=lambda item: item.name,
        description=lambda item: str(item.details.get("description") or ""),
        created_at=lambda item: item.created_at,
    )
    | {
        "updated_at": Field(read=lambda item: item.updated_at, kind="time"),
        "status": Field(read=_status_of),
    },
)


def create(store: Store, call: Call) -> dict[str, Any]:
    """Make a recurring run."""
    document = call.document()
    source = find_source(store, document)
    timing = check_schedule(read_timing(document))
    config = object_field(document, "runtime_config")
    parameters = object_field(config, "parameters")
    _require_runnable(store, source, parameters)
    digest = store.blobs.put(source.compiled.ir)
    state: State = "PAUSED" if document.get("mode") in ("DISABLE", 2) else "ENABLED"
    experiment = text_field(document, "experiment_id")
    with store.database.write() as connection:
        group = experiments.find(connection, experiment) if experiment else None
        group = group or experiments.default_experiment(connection, store.clock)
        details = {
            "experiment_id": group.id,
            "description": text_field(document, "description"),
            "service_account": text_field(document, "service_account"),
            "pipeline_root": text_field(config, "pipeline_root"),
            "pipeline_id": source.pipeline_id,
            "version_id": source.version_id,
            "trigger": object_field(document, "trigger"),
        }
        name = text_field(document, "display_name", _LONGEST_NAME) or source.compiled.name
        made = put_schedule(
            connection, store.clock, name=name, source="kfp", pipeline=source.compiled.name, timing=timing,
            parameters=parameters, ir_digest=digest, details=details, state=state,
        )  # fmt: skip
    return show(store, made)


def list_(store: Store, call: Call) -> dict[str, Any]:
    """List recurring runs: all, or those of an experiment."""
    experiment = call.text("experiment_id")
    with store.database.read() as connection:
        if experiment:
            experiments.find(connection, experiment)
        page = select_page(LISTING, call, of_experiment(connection, experiment))
    shown = [show(store, item) for item in page.items]
    return {**without_empty({"recurringRuns": shown, "next_page_token": page.next_token}), "total_size": page.total}


def of_experiment(connection: sa.Connection, experiment: str = "") -> list[StoredSchedule]:
    """Return the recurring runs of an experiment, or all."""
    found = list_schedules(connection, source="kfp")
    return [item for item in found if experiment in ("", item.details.get("experiment_id"))]


def get(store: Store, call: Call) -> dict[str, Any]:
    """Return one recurring run."""
    with store.database.read() as connection:
        return show(store, require_schedule(connection, call.path["id"], _SOURCE))


def enable(store: Store, call: Call) -> dict[str, Any]:
    """Let a recurring run go on."""
    return _set_state(store, call, "ENABLED")


def disable(store: Store, call: Call) -> dict[str, Any]:
    """Pause a recurring run."""
    return _set_state(store, call, "PAUSED")


def delete(store: Store, call: Call) -> dict[str, Any]:
    """Forget a recurring run; the runs it started stay."""
    with store.database.write() as connection:
        found = require_schedule(connection, call.path["id"], _SOURCE)
        keep_records(connection, runs_of_schedule(connection, found.id))
        delete_schedule(connection, found.id)
    return {}


def read_timing(document: dict[str, Any]) -> Schedule:
    """Return when a body wants its runs; raise `InvalidInput` that names what is wrong."""
    trigger = object_field(document, "trigger")
    cron, periodic = object_field(trigger, "cron_schedule"), object_field(trigger, "periodic_schedule")
    if bool(cron) == bool(periodic):
        raise InvalidInput("A recurring run has one trigger: cron_schedule or periodic_schedule.")
    found = cron or periodic
    concurrent = _number(document.get("max_concurrency", 1), "max_concurrency")
    if not 1 <= concurrent <= _MOST_CONCURRENT:
        raise InvalidInput(f"max_concurrency is {concurrent}; it goes from 1 to {_MOST_CONCURRENT}.")
    return Schedule(
        cron=text_field(cron, "cron"),
        interval_s=_number(periodic.get("interval_second", 0), "interval_second"),
        start_ms=_time(found, "start_time"),
        end_ms=_time(found, "end_time"),
        catch_up=not document.get("no_catchup", False),
        max_concurrent=concurrent,
    )


def show(store: Store, found: StoredSchedule) -> dict[str, Any]:
    """Return a recurring run as the API writes it."""
    details = found.details
    reference = {"pipeline_id": details.get("pipeline_id"), "pipeline_version_id": details.get("version_id")}
    shown = {
        "recurring_run_id": found.id,
        "display_name": found.name,
        "description": details.get("description"),
        "experiment_id": details.get("experiment_id"),
        "service_account": details.get("service_account"),
        "pipeline_version_reference": without_empty(reference),
        "runtime_config": without_empty(
            {"parameters": found.parameters, "pipeline_root": details.get("pipeline_root")}
        ),
        "trigger": details.get("trigger"),
        "max_concurrency": str(found.timing.max_concurrent),
        "mode": _status_of(found).removesuffix("D"),
        "status": _status_of(found),
        "created_at": moment(found.created_at),
        "updated_at": moment(found.updated_at),
    }
    if not details.get("pipeline_id"):
        shown["pipeline_spec"] = pipelines.spec_of(store, found.ir_digest)
    return {**without_empty(shown), "no_catchup": not found.timing.catch_up}


def _require_runnable(store: Store, source: Source, parameters: dict[str, Any]) -> None:
    """Raise `InvalidInput` for what no run of the schedule could start with; macros are filled as in its first run."""
    now = store.clock.now_ms()
    given = Macros(due_at=now, now=now, index=1).fill(parameters)
    engine_of(store).forecast(source.compiled, pipeline=source.compiled.name, parameters=given, use_cache=False)


def _set_state(store: Store, call: Call, state: State) -> dict[str, Any]:
    with store.database.write() as connection:
        require_schedule(connection, call.path["id"], _SOURCE)
        set_state(connection, store.clock, call.path["id"], state)
    return {}


def _number(value: object, name: str) -> int:
    try:
        return msgspec.convert(value, int, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{name} is {value!r}, not a whole number.") from error


def _time(found: dict[str, Any], name: str) -> int | None:
    text = text_field(found, name)
    if not text:
        return None
    try:
        return to_ms(msgspec.convert(text, datetime))
    except (msgspec.ValidationError, OverflowError) as error:
        raise InvalidInput(f"{name} is {text!r}, not a time.", hint="Write 2026-01-31T06:00:00Z.") from error
