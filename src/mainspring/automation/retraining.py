"""After each measured window: ask every policy whether to retrain, and queue a trigger if it says so."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from mainspring.automation.policies import Decision, LastTraining, decide_retraining, summarise_window
from mainspring.automation.triggers import Trigger, enqueue, list_triggers, skip
from mainspring.automation.watching import expected_losses
from mainspring.core.project import RetrainConfig
from mainspring.delivery import active_rollout
from mainspring.lineage import Store, list_events
from mainspring.monitoring import MeasuredWindow, list_windows
from mainspring.pipelines import list_runs
from mainspring.registry import list_versions


def consider_retraining(store: Store, measured: MeasuredWindow) -> list[Trigger]:
    """Let every policy that watches this monitor decide; a decision not to retrain is recorded with its reason too."""
    fired = []
    for name, config in store.project.retrain.items():
        if config.monitor != measured.monitor:
            continue
        with store.database.write() as connection:
            trigger = _apply(store, connection, name, config, measured)
        if trigger is not None:
            fired.append(trigger)
    return fired


def decide_what_is_left(store: Store) -> None:
    """Ask the policies about the newest window of each monitor if a crash came between measuring and deciding."""
    for monitor in store.project.monitors:
        with store.database.read() as connection:
            newest = list_windows(connection, monitor, limit=1)
            decided = list_events(connection, types=("trigger.",), limit=50, newest_first=True)
        if newest and all(event.cause != newest[0].event for event in decided):
            consider_retraining(store, newest[0])


def last_training(connection: sa.Connection, pipeline: str) -> LastTraining | None:
    """Return up to when the pipeline's newest training had seen data; one that failed does not count.

    A run somebody started by hand trains on what there is, so it counts from when it was made.
    """
    triggers = list_triggers(connection, pipeline=pipeline, states=("PENDING", "RUNNING", "DONE"))
    newest = next(iter(triggers), None)
    of_triggers = {trigger.run_id for trigger in triggers}
    by_hand = next(
        (
            run
            for run in list_runs(connection, pipeline=pipeline)
            if run.state in ("PENDING", "RUNNING", "COMPLETE") and run.id not in of_triggers
        ),
        None,
    )
    if by_hand is not None and (newest is None or by_hand.created_at > newest.created_at):
        return LastTraining(until=by_hand.created_at, run_id=by_hand.id)
    if newest is None:
        return None
    until = newest.evidence.get("newest_window_end") or newest.created_at
    return LastTraining(until=int(until), run_id=newest.run_id or "")


def _apply(
    store: Store, connection: sa.Connection, name: str, config: RetrainConfig, measured: MeasuredWindow
) -> Trigger | None:
    decision = _decide(store, connection, config, measured)
    if decision.kind == "none":
        skip(
            connection, store.clock, kind="none", pipeline=config.pipeline, policy=name, reason=decision.reason,
            evidence=decision.evidence, cause=measured.event,
        )  # fmt: skip
        return None
    return enqueue(
        connection, store.clock, kind=decision.kind, pipeline=config.pipeline, policy=name, reason=decision.reason,
        evidence=decision.evidence, cause=measured.event,
    )  # fmt: skip


def _decide(store: Store, connection: sa.Connection, config: RetrainConfig, measured: MeasuredWindow) -> Decision:
    last = last_training(connection, config.pipeline)
    model = store.project.endpoints[measured.endpoint].model
    expected = expected_losses(list_versions(connection, model))
    windows = list_windows(connection, measured.monitor, after_ms=last.until if last else None)
    monitor = store.project.monitors[measured.monitor]
    decision = decide_retraining(
        config,
        [summarise_window(window, expected) for window in windows],
        last,
        min_label_coverage=monitor.min_label_coverage,
    )
    rollout = active_rollout(connection, measured.endpoint)
    if decision.fire and rollout is not None:
        reason = f"{decision.reason} Waiting: version {rollout.candidate_version} is still being rolled out."
        return msgspec.structs.replace(decision, fire=False, kind="none", reason=reason)
    return decision
