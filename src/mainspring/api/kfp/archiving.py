"""Experiments that are put away, with what is in them: their runs are put away, too, their recurring runs pause."""

from __future__ import annotations

from typing import Any

from mainspring.api.kfp import experiments, recurring, runs
from mainspring.api.kfp.wire import Call
from mainspring.automation.schedule_store import set_state
from mainspring.lineage import Store


def archive(store: Store, call: Call) -> dict[str, Any]:
    """Put an experiment away with its runs; its recurring runs start no more."""
    id = call.path["id"]
    with store.database.write() as connection:
        experiments.set_storage_state(connection, id, "ARCHIVED")
        for schedule in recurring.of_experiment(connection, id):
            set_state(connection, store.clock, schedule.id, "PAUSED")
        for found in runs.of_experiment(connection, id):
            runs.keep_storage_state(connection, found.record, "ARCHIVED")
    return {}


def unarchive(store: Store, call: Call) -> dict[str, Any]:
    """Take an experiment out again; its runs and recurring runs stay as they are."""
    with store.database.write() as connection:
        experiments.set_storage_state(connection, call.path["id"], "AVAILABLE")
    return {}
