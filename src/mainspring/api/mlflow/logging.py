"""MLflow's endpoints that runs log to: metrics, params, batches, inputs and outputs. The hot ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.runs import RunId
from mainspring.api.mlflow.wire import Int64, KeyValue, Required, Wire, read_number, to_tags
from mainspring.core import InvalidInput
from mainspring.db import Session

if TYPE_CHECKING:
    from mainspring.lineage import Store

Timestamp: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Work: TypeAlias = Callable[[Session], Wire]
MAX_BATCH_BODY = 1_000_000
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_BATCH_LIMITS = {"metrics": 1000, "params": 100, "tags": 100}


class MetricItem(msgspec.Struct):
    """One value."""

    key: Required
    value: float | str
    timestamp: Timestamp
    step: Int64 | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    def to_metric(self) -> tracking.Metric:
        """Return the value as we keep it."""
        if bool(self.dataset_name) != bool(self.dataset_digest):
            raise InvalidInput("Both dataset_name and dataset_digest must be provided if one is provided")
        return tracking.Metric(
            key=self.key, value=read_number(self.value), timestamp=self.timestamp, step=self.step or 0,
            model_id=self.model_id or "", dataset_name=self.dataset_name or "",
            dataset_digest=self.dataset_digest or "",
        )  # fmt: skip


class LogMetric(MetricItem):
    """Log one value to a run."""

    run_id: str | None = None
    run_uuid: str | None = None


class LogParam(RunId):
    """Log one param to a run."""

    key: str = ""
    value: str = ""


class LogBatch(msgspec.Struct):
    """Log many things to a run."""

    run_id: Required
    metrics: list[MetricItem] | None = None
    params: list[KeyValue] | None = None
    tags: list[KeyValue] | None = None


class Dataset(msgspec.Struct):
    """A dataset as MLflow describes it."""

    name: Required
    digest: Required
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetItem(msgspec.Struct):
    """A dataset a run used, with tags."""

    dataset: Dataset
    tags: list[KeyValue] | None = None


class ModelItem(msgspec.Struct):
    """A logged model a run used or made."""

    model_id: Required
    step: Int64 | None = None


class LogInputs(msgspec.Struct):
    """Say what a run used."""

    run_id: Required
    datasets: list[DatasetItem] | None = None
    models: list[ModelItem] | None = None


class LogOutputs(msgspec.Struct):
    """Say which models a run made."""

    run_id: Required
    models: list[ModelItem]


def log_metric(_store: Store, request: LogMetric) -> Work:
    """Answer runs/log-metric."""
    run_id = RunId(request.run_id, request.run_uuid).require()
    return partial(_log, run_id, [request.to_metric()], [], {})


def log_param(_store: Store, request: LogParam) -> Work:
    """Answer runs/log-parameter."""
    return partial(_log_param, request.require(), tracking.Param(request.key, request.value))


def log_batch(_store: Store, request: LogBatch) -> Work:
    """Answer runs/log-batch."""
    _check_run_id(request.run_id)
    counts = {name: len(getattr(request, name) or ()) for name in _BATCH_LIMITS}
    for name, limit in _BATCH_LIMITS.items():
        if counts[name] > limit:
            raise InvalidInput(f"A batch logging request can contain at most {limit} {name}. Got {counts[name]}.")
    if sum(counts.values()) > 1000:
        raise InvalidInput("A batch logging request can contain at most 1000 metrics, params and tags together.")
    metrics = [metric.to_metric() for metric in request.metrics or ()]
    params = [tracking.Param(param.key, param.value) for param in request.params or ()]
    return partial(_log_many, request, metrics, params, to_tags(request.tags))


def log_inputs(_store: Store, request: LogInputs) -> Work:
    """Answer runs/log-inputs."""
    _check_run_id(request.run_id)
    datasets = [
        tracking.DatasetInput(tags=to_tags(item.tags), **msgspec.structs.asdict(item.dataset))
        for item in request.datasets or ()
    ]
    links = [tracking.ModelLink(kind="input", model_id=model.model_id) for model in request.models or ()]
    return partial(_log_links, request.run_id, datasets, links)


def log_outputs(_store: Store, request: LogOutputs) -> Work:
    """Answer runs/outputs."""
    links = [
        tracking.ModelLink(kind="output", model_id=model.model_id, step=model.step or 0) for model in request.models
    ]
    return partial(_log_links, request.run_id, [], links)


def _log_links(
    run_id: str, datasets: list[tracking.DatasetInput], links: list[tracking.ModelLink], session: Session
) -> Wire:
    run = tracking.find_run(session, run_id)
    for link in links:
        if link.kind == "output":
            tracking.check_model(session, link.model_id)
    tracking.log_datasets(session, run.number, run.experiment_id, datasets)
    tracking.log_models(session, run.number, links)
    return {}


def _log_param(run_id: str, param: tracking.Param, session: Session) -> Wire:
    tracking.log_param(session, run_id, param)
    return {}


def _log_many(
    request: LogBatch,
    metrics: list[tracking.Metric],
    params: list[tracking.Param],
    tags: dict[str, str],
    session: Session,
) -> Wire:
    try:
        return _log(request.run_id, metrics, params, tags, session)
    except InvalidInput:
        _check_keys(request)
        raise


def _check_keys(request: LogBatch) -> None:
    """Raise the error of the first key that is none, with its place in the batch: only worth it when one is bad."""
    for kind in ("metric", "param", "tag"):
        items: Sequence[MetricItem | KeyValue] = getattr(request, f"{kind}s") or ()
        for place, item in enumerate(items):
            tracking.check_key(kind, item.key, within=f"{kind}s[{place}]")


def _check_run_id(id: str) -> None:
    if not _RUN_ID.fullmatch(id):
        raise InvalidInput(f"Invalid value {json.dumps(id[:300])} for parameter 'run_id' supplied.")


def _log(
    run_id: str, metrics: list[tracking.Metric], params: list[tracking.Param], tags: dict[str, str], session: Session
) -> Wire:
    tracking.log_batch(session, run_id, metrics=metrics, params=params, tags=tags)
    if any(metric.model_id for metric in metrics):
        tracking.log_model_metrics(session, run_id, metrics)
    return {}


ENDPOINTS = (
    Endpoint(method="POST", path="runs/log-metric", request=LogMetric, write=log_metric),
    Endpoint(method="POST", path="runs/log-parameter", request=LogParam, write=log_param),
    Endpoint(method="POST", path="runs/log-batch", request=LogBatch, write=log_batch, max_body=MAX_BATCH_BODY),
    Endpoint(method="POST", path="runs/log-inputs", request=LogInputs, write=log_inputs),
    Endpoint(method="POST", path="runs/outputs", request=LogOutputs, write=log_outputs),
)
