"""MLflow's endpoints that runs log to: metrics, params, batches, inputs and outputs. The hot ones."""

from __future__ import annotations

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import metric_message
from mainspring.api.mlflow.runs import RunId
from mainspring.api.mlflow.wire import Int64, KeyValue, Required, Wire, read_number, set_fields, to_tags
from mainspring.core import InvalidInput
from mainspring.lineage import Store

MAX_BATCH_BODY = 1_000_000
_BATCH_LIMITS = {"metrics": 1000, "params": 100, "tags": 100}


class MetricItem(msgspec.Struct):
    """One value."""

    key: Required
    value: float | str
    timestamp: Int64
    step: Int64 | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    def to_metric(self) -> tracking.Metric:
        """Return the value as we keep it."""
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


class MetricHistory(RunId):
    """Read the history of one metric."""

    metric_key: str = ""
    page_token: str | None = None
    max_results: Int64 | None = None


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
    models: list[ModelItem] | None = None


def log_metric(store: Store, request: LogMetric) -> Wire:
    """Answer runs/log-metric."""
    run_id = RunId(request.run_id, request.run_uuid).require()
    _log(store, run_id, metrics=[request.to_metric()])
    return {}


def log_param(store: Store, request: LogParam) -> Wire:
    """Answer runs/log-parameter."""
    _log(store, request.require(), params=[tracking.Param(request.key, request.value)])
    return {}


def log_batch(store: Store, request: LogBatch) -> Wire:
    """Answer runs/log-batch."""
    counts = {name: len(getattr(request, name) or ()) for name in _BATCH_LIMITS}
    for name, limit in _BATCH_LIMITS.items():
        if counts[name] > limit:
            raise InvalidInput(f"A batch logging request can contain at most {limit} {name}. Got {counts[name]}.")
    if sum(counts.values()) > 1000:
        raise InvalidInput("A batch logging request can contain at most 1000 metrics, params and tags together.")
    _log(
        store,
        request.run_id,
        metrics=[metric.to_metric() for metric in request.metrics or ()],
        params=[tracking.Param(param.key, param.value) for param in request.params or ()],
        tags=to_tags(request.tags),
    )
    return {}


def get_history(store: Store, request: MetricHistory) -> Wire:
    """Answer metrics/get-history: all of it, or pages if ``max_results`` is given."""
    offset = tracking.read_offset(request.page_token)
    limit = None if request.max_results is None else tracking.check_max_results(request.max_results, 50_000)
    with store.database.read() as connection:
        run = tracking.find_run(connection, request.require(), stage=None)
        found = tracking.metric_history(connection, run.number, request.metric_key, limit=limit, offset=offset)
    token = None if limit is None else tracking.next_token(offset, limit, len(found))
    return set_fields(metrics=[metric_message(metric) for metric in found], next_page_token=token)


def log_inputs(store: Store, request: LogInputs) -> Wire:
    """Answer runs/log-inputs."""
    datasets = [
        tracking.DatasetInput(tags=to_tags(item.tags), **msgspec.structs.asdict(item.dataset))
        for item in request.datasets or ()
    ]
    links = [tracking.ModelLink(kind="input", model_id=model.model_id) for model in request.models or ()]
    with store.database.write() as connection:
        run = tracking.find_run(connection, request.run_id)
        tracking.log_datasets(connection, run.number, run.experiment_id, datasets)
        tracking.log_models(connection, run.number, links)
    return {}


def log_outputs(store: Store, request: LogOutputs) -> Wire:
    """Answer runs/outputs."""
    with store.database.write() as connection:
        run = tracking.find_run(connection, request.run_id)
        links = [
            tracking.ModelLink(kind="output", model_id=model.model_id, step=model.step or 0)
            for model in request.models or ()
        ]
        for link in links:
            tracking.get_logged_model(connection, link.model_id)
        tracking.log_models(connection, run.number, links)
    return {}


def _log(
    store: Store,
    run_id: str,
    *,
    metrics: list[tracking.Metric] | None = None,
    params: list[tracking.Param] | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    with store.database.write() as connection:
        tracking.log_batch(connection, run_id, metrics=metrics or (), params=params or (), tags=tags)
        if any(metric.model_id for metric in metrics or ()):
            tracking.log_model_metrics(connection, run_id, metrics or ())


ENDPOINTS = (
    Endpoint(method="POST", path="runs/log-metric", request=LogMetric, handle=log_metric),
    Endpoint(method="POST", path="runs/log-parameter", request=LogParam, handle=log_param),
    Endpoint(method="POST", path="runs/log-batch", request=LogBatch, handle=log_batch, max_body=MAX_BATCH_BODY),
    Endpoint(method="GET", path="metrics/get-history", request=MetricHistory, handle=get_history),
    Endpoint(method="POST", path="runs/log-inputs", request=LogInputs, handle=log_inputs),
    Endpoint(method="POST", path="runs/outputs", request=LogOutputs, handle=log_outputs),
)
