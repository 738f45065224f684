"""Gates, rollouts and deployments: how a trained model gets in front of clients, and out again."""

from __future__ import annotations

from mainspring.delivery.deployments import (
    DeploymentRevision,
    deploy,
    latest_deployment,
    list_deployments,
    plan_deployment,
    restore_file,
    save_deployment,
)
from mainspring.delivery.gates import Evaluation, GateCheck, GateVerdict, SliceEvaluation, judge_gate
from mainspring.delivery.journal import (
    active_rollout,
    begin_canary,
    get_rollout,
    list_rollouts,
    save_step,
    start_rollout,
)
from mainspring.delivery.rollouts import Rollout, RolloutEvidence, RolloutStatistics, RolloutStep, advance
from mainspring.delivery.sequential import Evidence, bet_on_positive_mean, event_log_evidence

__all__ = [
    "DeploymentRevision",
    "Evaluation",
    "Evidence",
    "GateCheck",
    "GateVerdict",
    "Rollout",
    "RolloutEvidence",
    "RolloutStatistics",
    "RolloutStep",
    "SliceEvaluation",
    "active_rollout",
    "advance",
    "begin_canary",
    "bet_on_positive_mean",
    "deploy",
    "event_log_evidence",
    "get_rollout",
    "judge_gate",
    "latest_deployment",
    "list_deployments",
    "list_rollouts",
    "plan_deployment",
    "restore_file",
    "save_deployment",
    "save_step",
    "start_rollout",
]
