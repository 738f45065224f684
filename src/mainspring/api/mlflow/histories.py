"""MLflow's endpoints that read the history of metrics: whole, of many runs, or sampled for charts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.runs import RunId
from mainspring.api.mlflow.wire import Int64, Required, missing_parameter, set_fields
from mainspring.core import InvalidInput, NotFound
from mainspring.db import Session

if TYPE_CHECKING:
    from mainspring.lineage import Store

MAX_RUNS = 100
MAX_BULK = 25_000
MAX_SAMPLE = 2500


class MetricHistory(RunId):
    """Read the history of one metric."""

    metric_key: str = ""
    page_token: str | None = None
    max_results: Int64 | None = None


class BulkHistory(msgspec.Struct):
    """Read the histories of one metric in several runs."""

    metric_key: str = ""
    run_id: list[str] | None = None
    max_results: Int64 | None = None


class SampledHistory(msgspec.Struct):
    """Read the histories of one metric in several runs, each down to a number of points."""

    metric_key: Required
    run_ids: list[str] | None = None
    start_step: Int64 | None = None
    end_step: Int64 | None = None
    max_results: Int64 | None = None


class MetricOfRun(msgspec.Struct, frozen=True, gc=False):
    """A value of a metric, and the run it is from."""

    key: str
    value: float | str
    timestamp: int
    step: int
    run_id: str


def get_history(store: Store, request: MetricHistory) -> bytes:
    """Answer metrics/get-history: all of it, or pages if ``max_results`` is given."""
    offset, key = tracking.read_offset(request.page_token), request.metric_key
    limit = None if request.max_results is None else tracking.check_max_results(request.max_results, 50_000)
    asked = None if limit is None else limit + 1
    id = request.require()
    if not key:
        raise missing_parameter("metric_key")
    with store.database.session() as session:
        runs = _known(session, [id])
        rows = tracking.history_rows(session, runs[0][1], key, limit=asked, offset=offset) if runs else []
    token = None if limit is None else tracking.next_token(offset, limit, len(rows))
    return msgspec.json.encode(set_fields(metrics=tracking.metric_documents(key, rows[:limit]), next_page_token=token))


def get_bulk(store: Store, request: BulkHistory) -> bytes:
    """Answer metrics/get-history-bulk: run after run by id, up to ``max_results`` values altogether."""
    ids = sorted(set(request.run_id or ()))
    if not ids:
        raise InvalidInput("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(ids) > MAX_RUNS:
        raise InvalidInput(
            f"GetMetricHistoryBulk request cannot specify more than {MAX_RUNS} run_ids. Received {len(ids)} run_ids."
        )
    if not request.metric_key:
        raise InvalidInput("GetMetricHistoryBulk request must specify a metric_key.")
    limit = MAX_BULK if request.max_results is None else min(request.max_results, MAX_BULK)
    found: list[MetricOfRun] = []
    with store.database.session() as session:
        for id, number in _known(session, ids):
            left = max(0, limit - len(found))
            rows = tracking.history_rows(session, number, request.metric_key, limit=left)
            found += _of_run(id, request.metric_key, rows)
    return msgspec.json.encode({"metrics": found})


def get_sampled(store: Store, request: SampledHistory) -> bytes:
    """Answer metrics/get-history-bulk-interval: of each run evenly sampled values, within steps if they are given."""
    ids = request.run_ids or []
    if not ids:
        raise missing_parameter("run_ids")
    if len(ids) > MAX_RUNS:
        raise InvalidInput(f"GetMetricHistoryBulkInterval request must specify at most {MAX_RUNS} run_ids.")
    limit = MAX_SAMPLE if request.max_results is None else request.max_results
    if not 1 <= limit <= MAX_SAMPLE:
        raise InvalidInput(f"max_results must be between 1 and {MAX_SAMPLE}.")
    if (request.start_step is None) != (request.end_step is None):
        raise InvalidInput("If either start step or end step are specified, both must be specified.")
    steps = None
    if request.start_step is not None and request.end_step is not None:
        steps = (request.start_step, request.end_step)
        if request.start_step > request.end_step:
            raise InvalidInput(
                "end_step must be greater than start_step. Found start_step="
                f"{request.start_step} and end_step={request.end_step}."
            )
    found: list[MetricOfRun] = []
    with store.database.session() as session:
        for id, number in _known(session, ids):
            rows = tracking.sample_history(session, number, request.metric_key, limit=limit, steps=steps)
            found += _of_run(id, request.metric_key, rows)
    return msgspec.json.encode(set_fields(metrics=found))


def _known(session: Session, ids: Iterable[str]) -> list[tuple[str, int]]:
    """Return the runs that exist, with their numbers; the others have no history."""
    found = []
    for id in ids:
        with suppress(NotFound):
            found.append((id, tracking.find_run(session, id, stage=None).number))
    return found


def _of_run(id: str, key: str, rows: Iterable[tuple[int, int, float]]) -> list[MetricOfRun]:
    documents = tracking.metric_documents(key, rows)
    return [MetricOfRun(found.key, found.value, found.timestamp, found.step, id) for found in documents]


ENDPOINTS = (
    Endpoint(method="GET", path="metrics/get-history", request=MetricHistory, render=get_history),
    Endpoint(method="GET", path="metrics/get-history-bulk", request=BulkHistory, render=get_bulk),
    Endpoint(method="GET", path="metrics/get-history-bulk-interval", request=SampledHistory, render=get_sampled),
)
