"""Policies that decide when to retrain, and the queue of triggers that start pipelines."""

from __future__ import annotations

from mainspring.automation.policies import (
    Decision,
    LastTraining,
    WindowSummary,
    decide_retraining,
    sum_excess_loss,
    summarise_window,
)
from mainspring.automation.triggers import (
    Trigger,
    TriggerKind,
    active_trigger,
    attach_run,
    claim_next,
    enqueue,
    finish,
    get_trigger,
    list_triggers,
    skip,
)

__all__ = [
    "Decision",
    "LastTraining",
    "Trigger",
    "TriggerKind",
    "WindowSummary",
    "active_trigger",
    "attach_run",
    "claim_next",
    "decide_retraining",
    "enqueue",
    "finish",
    "get_trigger",
    "list_triggers",
    "skip",
    "sum_excess_loss",
    "summarise_window",
]
