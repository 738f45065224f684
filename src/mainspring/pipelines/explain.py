"""Why a task ran again: its cache decision, and what differs from the last time the same task ended well."""

from __future__ import annotations

from typing import Any

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import Json
from mainspring.db import Session
from mainspring.pipelines.ir import read_pipeline
from mainspring.pipelines.placeholders import text_of
from mainspring.pipelines.plan import DagPlan
from mainspring.pipelines.planner import make_plan
from mainspring.pipelines.records import PipelineRun, TaskRun, get_run, get_task, last_result
from mainspring.pipelines.values import ArtifactValue
from mainspring.pipelines.worker import find_plan

_SHOWN = 120


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task ran, or did not."""

    address: str
    state: str
    decision: str
    compared_with: str
    """Run of the last good result of the same task; empty when there is none."""
    differences: tuple[str, ...]


def explain_task(session: Session, blobs: LocalBlobs, run_id: str, task: str) -> Explanation:
    """Explain one task of a run; raise `NotFound`."""
    run, now = get_run(session, run_id), get_task(session, run_id, task)
    before = last_result(session, run.pipeline, now.address, run_id)
    differences: tuple[str, ...] = ()
    if before is not None and now.started_at is not None:
        earlier = get_run(session, before.run_id)
        differences = (
            *_component_differences(blobs, run, earlier, now, before),
            *_parameter_differences(now.inputs.parameters, before.inputs.parameters),
            *_artifact_differences(now, before),
        )
    return Explanation(
        address=now.address,
        state=now.state,
        decision=now.cache or now.error or "nothing was decided: it has not been its turn",
        compared_with="" if before is None else before.run_id,
        differences=differences,
    )


def _component_differences(
    blobs: LocalBlobs, run: PipelineRun, earlier: PipelineRun, now: TaskRun, before: TaskRun
) -> list[str]:
    if now.component_digest == before.component_digest:
        return []
    new, old = (_component(blobs, found, now.address) for found in (run, earlier))
    changed = [name for name in sorted({*new, *old}) if new.get(name) != old.get(name)]
    shown = {"source": "its source", "environment": "its environment variables"}
    return [
        f"{shown[name]} changed"
        if name in shown
        else f"its {name} was {_show(old.get(name))}, now {_show(new.get(name))}"
        for name in changed
    ]


def _component(blobs: LocalBlobs, run: PipelineRun, address: str) -> dict[str, Any]:
    body = find_plan(make_plan(read_pipeline(blobs.read(run.ir_digest))).root, address).body
    return {} if isinstance(body, DagPlan) else msgspec.to_builtins(body)


def _parameter_differences(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    return [
        f"parameter {name!r} was {_show(before.get(name))}, now {_show(now.get(name))}"
        for name in sorted({*now, *before})
        if now.get(name) != before.get(name)
    ]


def _artifact_differences(now: TaskRun, before: TaskRun) -> list[str]:
    new, old = dict(now.inputs.all_artifacts()), dict(before.inputs.all_artifacts())
    found = []
    for name in sorted({*new, *old}):
        if name not in new or name not in old:
            found.append(f"artifact {name!r} was {'given' if name in old else 'not given'} before")
        elif new[name].digest != old[name].digest:
            found.append(f"artifact {name!r} holds other bytes: {_bytes(old[name])} before, {_bytes(new[name])} now")
        elif new[name].metadata != old[name].metadata:
            found.append(f"the metadata of artifact {name!r} changed")
    return found


def _bytes(value: ArtifactValue) -> str:
    return (value.digest or value.uri or "nothing")[:19]


def _show(value: Json) -> str:
    text = "not given" if value is None else text_of(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
