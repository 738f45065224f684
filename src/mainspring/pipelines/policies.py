"""How often, how wide and over what a task runs: its retries and its loop, read and checked."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from mainspring.core import InvalidInput
from mainspring.pipelines import ir
from mainspring.pipelines.plan import Loop, Retry

_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_LONGEST_MS = 3_600_000
_AFTER_FAILURE = "ALL_UPSTREAM_TASKS_COMPLETED"
_STRATEGIES = ("", "TRIGGER_STRATEGY_UNSPECIFIED", "ALL_UPSTREAM_TASKS_SUCCEEDED", _AFTER_FAILURE)


def read_retry(policy: ir.RetryPolicy | None) -> Retry | None:
    """Return when a task runs again; raise `InvalidInput` that names the field that makes no sense."""
    if policy is None:
        return None
    if policy.max_retry_count < 0:
        raise InvalidInput(f"maxRetryCount is {policy.max_retry_count} in its retryPolicy: write 0 or more")
    if not (math.isfinite(policy.backoff_factor) and policy.backoff_factor >= 0):
        raise InvalidInput(f"backoffFactor is {policy.backoff_factor} in its retryPolicy: write 1 or more")
    return Retry(
        count=policy.max_retry_count,
        delay_ms=_milliseconds("backoffDuration", policy.backoff_duration),
        factor=policy.backoff_factor or 2.0,
        longest_ms=_milliseconds("backoffMaxDuration", policy.backoff_max_duration) or _LONGEST_MS,
    )


def read_trigger(policy: ir.TriggerPolicy) -> bool:
    """Say whether a task runs whatever became of those before it; raise `InvalidInput` for an unknown strategy."""
    if policy.strategy not in _STRATEGIES:
        raise InvalidInput(f"its triggerPolicy has the unknown strategy {policy.strategy!r}: write {_AFTER_FAILURE}")
    return policy.strategy == _AFTER_FAILURE


def read_loop(spec: ir.TaskSpec) -> Loop | None:
    """Return what a task runs over; raise `InvalidInput` when it is not a list, or is nothing."""
    if spec.parameter_iterator is not None and spec.artifact_iterator is not None:
        raise InvalidInput("it has a parameterIterator and an artifactIterator: write one of them")
    iterator = spec.parameter_iterator or spec.artifact_iterator
    limit = spec.iterator_policy.parallelism_limit
    if limit < 0:
        raise InvalidInput(f"parallelismLimit is {limit} in its iteratorPolicy: write 1 or more, or 0 for no limit")
    if iterator is None:
        return None
    items = iterator.items
    if not (items.raw or items.input_parameter or items.input_artifact):
        raise InvalidInput("a loop over nothing: its iterator has no items")
    raw = _raw_items(items.raw) if items.raw else None
    source = {} if items.raw else {"parameter": items.input_parameter, "artifact": items.input_artifact}
    return Loop(item=iterator.item_input, raw=raw, limit=limit, **source)


def _raw_items(raw: str) -> tuple[Any, ...]:
    try:
        items = ir.normalise_numbers(msgspec.json.decode(raw))
    except msgspec.DecodeError:
        items = None
    if not isinstance(items, list):
        raise InvalidInput(f"the items of its loop are not a JSON list: {raw[:60]}")
    return tuple(items)


def _milliseconds(field: str, duration: str) -> int:
    match = _DURATION.fullmatch(duration or "0s")
    if match is None:
        raise InvalidInput(f"{field} is {duration!r} in its retryPolicy, not a duration: write seconds, as 30s")
    return round(float(match[1]) * 1000)
