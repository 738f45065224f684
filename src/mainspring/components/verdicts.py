"""The gate as a step: is the candidate better than the champion where it counts?"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import sqlalchemy as sa

from mainspring.components.artifacts import ArtifactFile
from mainspring.delivery import Evaluation, GateVerdict, judge_gate
from mainspring.lineage import record_event
from mainspring.pipelines import current_run_id, get_run, task_store

PROJECT_VARIABLE = "MAINSPRING_PROJECT"
"""Set where a task runs for one of our projects (`mainspring.pipelines.task_environment`)."""


def compare_on_newest_window(
    candidate: ArtifactFile, champion: ArtifactFile, *, model: str, min_gain: float, verdict: ArtifactFile
) -> bool:
    """Judge two evaluations on the same newest rows, record the verdict as an event, and say whether it passed."""
    ours = msgspec.json.decode(Path(candidate.path).read_bytes(), type=Evaluation)
    theirs = msgspec.json.decode(Path(champion.path).read_bytes(), type=Evaluation | None)
    judged = judge_gate(ours, theirs, min_gain=min_gain)
    Path(verdict.path).write_bytes(msgspec.json.encode(judged))
    record_verdict(judged, model=model, candidate_loss=ours.log_loss, champion_loss=theirs.log_loss if theirs else None)
    return judged.passed


def record_verdict(verdict: GateVerdict, *, model: str, candidate_loss: float, champion_loss: float | None) -> None:
    """Record what a gate said as an event of this project; elsewhere (Kubeflow, Vertex AI) there is no journal."""
    if PROJECT_VARIABLE not in os.environ:
        return
    with task_store() as store, store.database.write() as connection:
        record_event(
            connection,
            store.clock,
            "gate.passed" if verdict.passed else "gate.refused",
            source="pipelines",
            subject=model,
            cause=_cause(connection),
            data={"reason": verdict.reason, "candidate_log_loss": candidate_loss, "champion_log_loss": champion_loss},
        )


def _cause(connection: sa.Connection) -> str | None:
    """Return the event this task runs because of: the start of its pipeline run."""
    run_id = current_run_id()
    return get_run(connection, run_id).started_event if run_id else None
