"""From a call to the record that is written about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from mainspring.core import Json, MainspringError
from mainspring.serving.batcher import Job
from mainspring.serving.calls import Call
from mainspring.serving.checked import Checked
from mainspring.serving.faults import BadRequest
from mainspring.serving.outputs import Outputs
from mainspring.serving.plan import Plan
from mainspring.serving.records import PredictionRecord
from mainspring.serving.validation import Columns
from mainspring.serving.wire import plain

MAX_REFUSED_INPUTS = 64 << 10
"""Refused requests are logged with their inputs up to this many bytes of JSON."""
_encode = msgspec.json.Encoder(enc_hook=lambda value: value.tolist() if hasattr(value, "tolist") else str(value)).encode


def answered(endpoint: str, job: Job) -> PredictionRecord:
    """Make the record of a request that got its prediction."""
    call = job.call
    variant, router = call.variant, call.router
    assert variant is not None
    assert router is not None
    reference = variant.model.reference
    return PredictionRecord(
        id=call.id,
        received_at=call.received_at,
        latency_ms=call.latency_ms,
        endpoint=endpoint,
        revision=router.deployment.revision,
        variant=variant.name,
        shadow=job.is_shadow,
        model=reference.name,
        version=reference.version,
        digest=reference.digest,
        protocol=call.wire.name,
        status=200,
        rows=call.rows,
        inputs=_sent_inputs(job, variant.model.plan) or logged_inputs(job.checked, variant.model.plan),
        outputs=_logged_outputs(job.outputs),
        validation_errors=list(job.checked.notes),
        split_key=call.split_key,
        queue_ms=round((job.started_at - job.queued_at) * 1000, 3),
        predict_ms=round(job.predict_seconds * 1000, 3),
        batch_rows=job.batch_rows,
        trace_id=call.trace_id,
        parent_id=call.parent_id,
        delivered=job.is_shadow or not call.is_gone(),
    )


def refused(endpoint: str, call: Call, error: MainspringError, *, shadow: bool = False) -> PredictionRecord:
    """Make the record of a request that was not answered with a prediction."""
    variant, router = call.variant, call.router
    reference = variant.model.reference if variant else None
    return PredictionRecord(
        id=call.id,
        received_at=call.received_at,
        latency_ms=call.latency_ms,
        endpoint=endpoint,
        revision=router.deployment.revision if router else 0,
        variant=variant.name if variant else "",
        shadow=shadow,
        model=reference.name if reference else "",
        version=reference.version if reference else "",
        digest=reference.digest if reference else "",
        protocol=call.wire.name,
        status=error.http_status,
        rows=call.rows,
        inputs=_refused_inputs(call),
        validation_errors=error.problems if isinstance(error, BadRequest) else [error.message[:500]],
        split_key=call.split_key,
        trace_id=call.trace_id,
        parent_id=call.parent_id,
        delivered=shadow or not call.is_gone(),
    )


def _sent_inputs(job: Job, plan: Plan) -> Json:
    """Return the very text that was sent behind the columns' names, if it was numbers only and none is to be hidden."""
    given = job.call.given
    if given is None or not given.text or not plan.columns:
        return None
    return msgspec.Raw(b"[%b,[%b]]" % (plan.names_json, given.text))


def logged_inputs(checked: Checked, plan: Plan) -> dict[str, Any]:
    """Return what the model got as columns of plain values; whole numbers stay whole."""
    matrix = checked.matrix
    if matrix is None or len(checked.names) != matrix.shape[-1]:
        return {name: _plain(checked[name]) for name in checked}
    lists: list[list[Any]] = matrix.T.tolist()
    for place in plan.whole.tolist() if plan.columns else ():
        lists[place] = [int(value) if value == value else None for value in lists[place]]  # noqa: PLR0124 - NaN
    return dict(zip(checked.names, lists, strict=True))


def _logged_outputs(outputs: Outputs | None) -> list[Any] | None:
    if outputs is None:
        return None
    if outputs.is_frame and len(outputs.names) > 1:
        columns = [plain(array) for array in outputs.arrays]
        return [dict(zip(outputs.names, row, strict=True)) for row in zip(*columns, strict=True)]
    found = plain(outputs.primary)
    return found if outputs.primary.ndim else [found]


def _refused_inputs(call: Call) -> dict[str, Any] | None:
    """Return the columns of a refused request as they were sent, unless they are large or are none."""
    if call.given is None or call.variant is None:
        return None
    columns: Columns | None = call.given.to_columns(call.variant.model.plan)
    if columns is None:
        return None
    lists = {name: _plain(values) for name, values in columns.items()}
    return lists if len(_encode(lists)) <= MAX_REFUSED_INPUTS else None


def _plain(values: Json) -> Sequence[Any]:
    found = plain(values) if isinstance(values, np.ndarray) else values
    return found if isinstance(found, list | tuple) else [found]
