"""Runs that are due: a stage of the controller loop. Each time of a schedule starts one run, whatever crashes when.

That a time is dealt with is recorded with the event it causes, before its run is; a run names the event as its cause,
so after a crash in between the run is found, or made, and never made twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.automation.macros import Macros
from mainspring.automation.schedule_store import (
    Firing,
    StoredSchedule,
    count_firings,
    delete_schedule,
    find_schedule,
    get_schedule,
    list_firings,
    list_schedules,
    move_on,
    put_firing,
    put_schedule,
    replan_schedule,
    settle_firing,
)
from mainspring.automation.schedules import Due, Schedule, due
from mainspring.automation.triggers import active_trigger, enqueue
from mainspring.core import MainspringError, NotFound, to_iso, to_ms
from mainspring.core.project import ScheduleConfig, parse_duration
from mainspring.lineage import Store, record_event
from mainspring.pipelines import get_run, list_runs, read_compiled

log = logging.getLogger("mainspring.schedules")

CreateRun = Callable[[StoredSchedule, dict[str, Any], str], str]
"""Records a queued run of a schedule, given its parameters and the event that caused it; returns the run's id."""

_ENDED = ("COMPLETE", "FAILED", "CANCELED")
_LOOKED_AT = 200


def fire_schedules(store: Store, create_run: CreateRun | None = None) -> bool:
    """Start what is due; return whether anything was started."""
    keep_project_schedules(store)
    with store.database.read() as connection:
        enabled = list_schedules(connection, state="ENABLED")
        left = list_firings(connection, unsettled=True)
    now = store.clock.now_ms()
    fired = 0
    for found in enabled:
        if found.next_due is not None and found.next_due <= now:
            fired += _fire(store, found, now)
    if left or fired:
        _settle(store, create_run or _queue_run(store))
    return bool(fired)


def keep_project_schedules(store: Store) -> None:
    """Bring the recorded schedules of the project up to what its file says."""
    wanted = {f"project:{name}": (name, config) for name, config in store.project.schedules.items()}
    with store.database.read() as connection:
        known = {found.id: found for found in list_schedules(connection, source="project")}
    kept = {id: (item.timing, item.pipeline) for id, item in known.items()}
    if {id: (timing_of(config), config.pipeline) for id, (_, config) in wanted.items()} == kept:
        return
    with store.database.write() as connection:
        for id, (name, config) in wanted.items():
            timing = timing_of(config)
            if id not in known:
                put_schedule(
                    connection, store.clock, id=id, name=name, source="project", pipeline=config.pipeline, timing=timing
                )
            elif (known[id].timing, known[id].pipeline) != (timing, config.pipeline):
                replan_schedule(connection, store.clock, id, pipeline=config.pipeline, timing=timing)
        for id in known.keys() - wanted.keys():
            delete_schedule(connection, id)


def timing_of(config: ScheduleConfig) -> Schedule:
    """Return the timing a project's file asks for."""
    return Schedule(
        cron=config.cron,
        interval_s=parse_duration(config.every) // 1000 if config.every else 0,
        time_zone=config.time_zone,
        start_ms=None if config.start is None else to_ms(config.start),
        end_ms=None if config.end is None else to_ms(config.end),
        catch_up=config.catch_up,
    )


def _fire(store: Store, found: StoredSchedule, now: int) -> int:
    """Record what of a schedule is due now; returns how many times it fires."""
    with store.database.write() as connection:
        current = get_schedule(connection, found.id)
        if current.state != "ENABLED":
            return 0
        decision = _decide(connection, current, now)
        if decision.last != current.last_due:
            move_on(connection, current.id, decision.last)
        if decision.missed:
            data = {"schedule": current.name, "missed": decision.missed}
            record_event(
                connection, store.clock, "schedule.missed", source="automation", subject=current.pipeline, data=data
            )
        for at in decision.fire:
            _record(connection, store, current, at)
    return len(decision.fire)


def _decide(connection: sa.Connection, found: StoredSchedule, now: int) -> Due:
    if found.source == "project":
        running = 1 if active_trigger(connection, found.pipeline) is not None else 0
        return due(found.timing, found.last_due, now, running=running)
    running = sum(
        not firing.run_id or get_run(connection, firing.run_id).state not in _ENDED
        for firing in list_firings(connection, schedule_id=found.id, limit=_LOOKED_AT)
        if firing.run_id != ""
    )
    return due(found.timing, found.last_due, now, running=running, started=count_firings(connection, found.id))


def _record(connection: sa.Connection, store: Store, found: StoredSchedule, at: int) -> None:
    """Record one time: a trigger for a pipeline of the project, a run to make for another."""
    reason = f"The schedule {found.name} was due at {to_iso(at)}."
    evidence = {"schedule": found.name, "due_at": at}
    if found.source == "project":
        enqueue(
            connection, store.clock, kind="schedule", pipeline=found.pipeline, policy=found.name, reason=reason,
            evidence=evidence,
        )  # fmt: skip
        return
    data = {
        "kind": "schedule",
        "policy": found.name,
        "pipeline": found.pipeline,
        "reason": reason,
        "evidence": evidence,
    }
    event = record_event(
        connection, store.clock, "trigger.fired", source="automation", subject=found.pipeline, data=data
    )
    put_firing(connection, Firing(schedule_id=found.id, due_at=at, event=event, run_id=None))


def _settle(store: Store, create_run: CreateRun) -> None:
    """Make the runs that are recorded as due and not made yet."""
    with store.database.read() as connection:
        left = list_firings(connection, unsettled=True)
        recent = {run.cause: run.id for run in list_runs(connection, _LOOKED_AT) if run.cause}
    for firing in left:
        run_id = recent.get(firing.event) or _make(store, create_run, firing)
        with store.database.write() as connection:
            settle_firing(connection, firing, run_id)


def _make(store: Store, create_run: CreateRun, firing: Firing) -> str:
    """Record the run; a pipeline that cannot run raises an alert, once, and the schedule goes on."""
    with store.database.read() as connection:
        found = get_schedule(connection, firing.schedule_id)
        index = count_firings(connection, firing.schedule_id, until=firing.due_at)
    parameters = Macros(due_at=firing.due_at, now=store.clock.now_ms(), index=index).fill(found.parameters)
    try:
        return create_run(found, parameters, firing.event)
    except MainspringError as error:
        log.error("schedule.failed schedule=%s message=%s", found.id, error.message)
        with store.database.write() as connection:
            record_event(
                connection, store.clock, "alert.raised", source="automation", subject=found.pipeline,
                cause=firing.event, data={"reason": f"The schedule {found.name} cannot start a run: {error.message}"},
            )  # fmt: skip
        return ""


def _queue_run(store: Store) -> CreateRun:
    from mainspring.automation.training import open_engine
    from mainspring.pipelines import LocalLauncher

    def create(found: StoredSchedule, parameters: Mapping[str, Any], event: str) -> str:
        engine = open_engine(store, LocalLauncher(home=store.settings.home), tracking="")
        compiled = read_compiled(store.blobs.read(found.ir_digest))
        compiled = msgspec.structs.replace(compiled, digest=found.ir_digest)
        return engine.create_run(
            compiled, pipeline=found.pipeline, parameters=dict(parameters), cause=event, queued=True,
            use_cache=bool(found.details.get("use_cache", True)),
        )  # fmt: skip

    return create


def require_schedule(connection: sa.Connection, id: str, source: str) -> StoredSchedule:
    """Return a schedule of one source by its id; raise `NotFound` for one of another, and for a name."""
    found = find_schedule(connection, id)
    if found is None or found.source != source:
        raise NotFound(f"There is no schedule {id!r}.")
    return found
