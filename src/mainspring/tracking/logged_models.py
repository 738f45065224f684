"""Logged models: what MLflow 3 makes of ``log_model``, before (or without) registering it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock, Conflict, InvalidInput, NotFound, new_hex_id
from mainspring.db.tables import tracking as tables
from mainspring.tracking import checks
from mainspring.tracking.experiments import experiment_numbers, get_active_experiment
from mainspring.tracking.filters import Comparison, compare, compare_tag, parse_filter, parse_order
from mainspring.tracking.metrics import Metric
from mainspring.tracking.paging import check_max_results, next_token, read_offset
from mainspring.tracking.runs import Param
from mainspring.tracking.upserts import upsert

MAX_RESULTS = 50_000
_BAD_NAME_MARKS = ("/", ":", ".", "%", '"', "'")
PENDING, READY, FAILED = "LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"
_MODEL, _METRIC = tables.logged_model.c, tables.logged_model_metric.c
_NUMBERS: dict[str, sa.ColumnElement[Any]] = {
    "creation_timestamp": _MODEL.created_at,
    "creation_timestamp_ms": _MODEL.created_at,
    "creation_time": _MODEL.created_at,
    "last_updated_timestamp": _MODEL.updated_at,
    "last_updated_timestamp_ms": _MODEL.updated_at,
}
_TEXTS: dict[str, sa.ColumnElement[Any]] = {
    "name": _MODEL.name,
    "model_id": _MODEL.id,
    "model_type": _MODEL.model_type,
    "status": _MODEL.status,
    "source_run_id": _MODEL.source_run_id,
}


class ModelMetric(msgspec.Struct, frozen=True, kw_only=True):
    """The latest value of a metric of a logged model, and the run that measured it."""

    run_id: str
    metric: Metric


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One logged model. Times are milliseconds since the epoch."""

    id: str
    experiment_id: str
    name: str
    model_type: str
    source_run_id: str | None
    artifact_uri: str
    status: str
    lifecycle_stage: str
    created_at: int
    updated_at: int
    params: list[Param]
    tags: dict[str, str]
    metrics: list[ModelMetric]


class LoggedModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search."""

    models: list[LoggedModel]
    next_page_token: str | None


def create_logged_model(
    connection: sa.Connection,
    clock: Clock,
    experiment_id: str,
    *,
    name: str = "",
    model_type: str = "",
    source_run_id: str | None = None,
    params: Sequence[Param] = (),
    tags: Mapping[str, str] | None = None,
) -> LoggedModel:
    """Make a model whose artifacts are about to be uploaded; its run may be one this server does not know."""
    experiment = get_active_experiment(connection, experiment_id)
    source = checks.check_length("Source run ID", source_run_id or "", 32)
    id = "m-" + new_hex_id()
    if any(mark in name for mark in _BAD_NAME_MARKS):
        raise InvalidInput(
            f"Invalid model name ({name[:100]!r}) provided. Model name must be a non-empty string and cannot contain "
            f"the following characters: {_BAD_NAME_MARKS}"
        )
    now, name = clock.now_ms(), name or f"model-{id[2:10]}"
    connection.execute(
        sa.insert(tables.logged_model).values(
            id=id, experiment_id=int(experiment.id), name=checks.check_length("Model name", name, 250),
            model_type=checks.check_length("Model type", model_type, 250), source_run_id=source or None,
            artifact_uri=f"{experiment.artifact_location}/models/{id}/artifacts", status=PENDING,
            lifecycle_stage="active", created_at=now, updated_at=now,
        )
    )  # fmt: skip
    log_model_params(connection, id, params)
    set_model_tags(connection, clock, id, tags or {})
    return get_logged_model(connection, id)


def get_logged_model(connection: sa.Connection, id: str, *, allow_deleted: bool = False) -> LoggedModel:
    """Return one logged model; raise `NotFound`."""
    found = _load(connection, sa.select(tables.logged_model).where(_MODEL.id == id))
    if not found or (found[0].lifecycle_stage == "deleted" and not allow_deleted):
        raise NotFound(f"Logged model with ID '{id[:100]}' not found.")
    return found[0]


def finalize_logged_model(connection: sa.Connection, clock: Clock, id: str, status: str) -> LoggedModel:
    """Say that the upload is over: READY or UPLOAD_FAILED."""
    get_logged_model(connection, id)
    if status not in (READY, FAILED):
        raise InvalidInput(f"Invalid model status: {status[:50]!r}.", hint=f"Use {READY} or {FAILED}.")
    _update(connection, id, status=status, updated_at=clock.now_ms())
    return get_logged_model(connection, id)


def delete_logged_model(connection: sa.Connection, clock: Clock, id: str) -> None:
    """Mark a logged model as deleted."""
    get_logged_model(connection, id)
    _update(connection, id, lifecycle_stage="deleted", updated_at=clock.now_ms())


def set_model_tags(connection: sa.Connection, clock: Clock, id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a logged model."""
    checks.check_tags(tags, limit=checks.MAX_MODEL_VALUE)
    get_logged_model(connection, id)
    rows = [{"model_id": id, "key": key, "value": value} for key, value in tags.items()]
    upsert(connection, tables.logged_model_tag, rows, keys=("model_id", "key"), update=("value",))
    _update(connection, id, updated_at=clock.now_ms())


def delete_model_tag(connection: sa.Connection, id: str, key: str) -> None:
    """Remove a tag of a logged model; raise `NotFound` if it has none of that name."""
    get_logged_model(connection, id)
    table = tables.logged_model_tag
    if connection.execute(sa.delete(table).where(table.c.model_id == id, table.c.key == key)).rowcount == 0:
        raise NotFound(f"No tag with key {key[:100]!r} found for model with ID '{id}'.")


def log_model_params(connection: sa.Connection, id: str, params: Sequence[Param]) -> None:
    """Record params of a logged model; the same key again with another value raises `Conflict`."""
    found = {param.key: param.value for param in get_logged_model(connection, id).params}
    for param in params:
        checks.check_key("param", param.key)
        checks.check_length("Param value", param.value, checks.MAX_MODEL_VALUE)
        if found.setdefault(param.key, param.value) != param.value:
            raise Conflict(f"Changing param values is not allowed. Param with key='{param.key}' was already logged.")
    rows = [{"model_id": id, "key": param.key, "value": param.value} for param in params]
    upsert(connection, tables.logged_model_param, rows, keys=("model_id", "key"), update=())


class DatasetName(msgspec.Struct, frozen=True):
    """A dataset metrics were measured on; an empty ``digest`` stands for any."""

    name: str
    digest: str = ""


class ModelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to order by: an attribute, or a metric as measured on a dataset (an empty name: on any)."""

    field: str
    ascends: bool = True
    dataset: DatasetName = DatasetName("")


def search_logged_models(
    connection: sa.Connection,
    experiment_ids: Sequence[str],
    *,
    filter: str = "",
    datasets: Sequence[DatasetName] = (),
    order_by: Sequence[ModelOrder] = (),
    max_results: int = 100,
    page_token: str | None = None,
) -> LoggedModelPage:
    """Return the logged models that match, newest first unless ordered otherwise.

    With ``datasets``, metrics count only where they were measured on one of them.
    """
    limit, offset = check_max_results(max_results, MAX_RESULTS), read_offset(page_token)
    numbers = experiment_numbers(experiment_ids)
    query = sa.select(tables.logged_model).where(_MODEL.experiment_id.in_(numbers), _MODEL.lifecycle_stage == "active")
    comparisons, conditions = _conditions(connection, filter, datasets)
    query = query.where(*conditions)
    if datasets and not any(comparison.kind == "metric" for comparison in comparisons):
        query = query.where(sa.exists().where(_METRIC.model_id == _MODEL.id, _measured_on(datasets)))
    for order in order_by:
        query = query.order_by(_order(order))
    found = _load(connection, query.order_by(_MODEL.created_at.desc(), _MODEL.id).limit(limit + 1).offset(offset))
    token = next_token(offset, limit, len(found))
    return LoggedModelPage(models=found[:limit], next_page_token=token)


def _conditions(
    connection: sa.Connection, filter: str, datasets: Sequence[DatasetName]
) -> tuple[list[Comparison], list[sa.ColumnElement[bool]]]:
    """Parse a filter; what is wrong with it is told in the words MLflow has for logged models."""
    try:
        comparisons = parse_filter(filter)
        return comparisons, [_condition(connection, comparison, datasets) for comparison in comparisons]
    except InvalidInput as error:
        if error.message.startswith("Invalid clause(s)"):
            raise InvalidInput(
                f"Invalid filter string: {filter[:200]!r}. Expected a list of comparisons separated by 'AND' (e.g. "
                "'metrics.loss > 0.1 AND params.lr = 0.01')."
            ) from error
        text = error.message.replace("Invalid comparator", "Invalid comparison operator")
        raise InvalidInput(text, hint=error.hint) from error


def _measured_on(datasets: Sequence[DatasetName]) -> sa.ColumnElement[bool]:
    """Match metrics measured on one of these datasets; all metrics if there are none."""
    choices = [
        sa.and_(_METRIC.dataset_name == one.name, *([_METRIC.dataset_digest == one.digest] if one.digest else []))
        for one in datasets
        if one.name
    ]
    return sa.or_(*choices) if choices else sa.true()


def _condition(
    connection: sa.Connection, comparison: Comparison, datasets: Sequence[DatasetName]
) -> sa.ColumnElement[bool]:
    if comparison.kind == "metric":
        matches = compare(connection, _METRIC.value, comparison, numeric=True)
        mine = (_METRIC.model_id == _MODEL.id, _METRIC.key == comparison.key, ~_METRIC.is_nan)
        return sa.exists().where(*mine, matches, _measured_on(datasets))
    if comparison.kind in ("param", "tag"):
        table = tables.logged_model_param if comparison.kind == "param" else tables.logged_model_tag
        return compare_tag(connection, comparison, table.c, table.c.model_id == _MODEL.id)
    columns = {**_TEXTS, **_NUMBERS}
    if comparison.kind != "attribute" or comparison.key not in columns:
        raise InvalidInput(
            f"Invalid attribute key '{comparison.key[:100]}'.", hint=f"Valid keys: {', '.join(columns)}."
        )
    return compare(connection, columns[comparison.key], comparison, numeric=comparison.key in _NUMBERS)


def _order(order: ModelOrder) -> sa.ColumnElement[Any]:
    """Order by an attribute, or by the latest value of a metric; models without it come last."""
    kind, key, _ = parse_order(order.field) if order.field else ("attribute", "", True)
    columns = {**_TEXTS, **_NUMBERS}
    if kind == "attribute" and key in columns:
        column: sa.ColumnElement[Any] = columns[key]
    elif kind == "metric":
        latest = sa.select(_METRIC.value).where(
            _METRIC.model_id == _MODEL.id, _METRIC.key == key, ~_METRIC.is_nan, _measured_on([order.dataset])
        )
        newest_first = (_METRIC.timestamp.desc(), _METRIC.step.desc(), _METRIC.run_id)
        column = latest.order_by(*newest_first).limit(1).scalar_subquery()
    elif kind == "attribute":
        raise InvalidInput(f"Invalid order by field name: {key[:100]}", hint=f"Valid names: {', '.join(columns)}.")
    else:
        raise InvalidInput(f"Invalid order by field name: {order.field[:100]}. Only metrics are supported.")
    return (column.asc() if order.ascends else column.desc()).nulls_last()


def _load(connection: sa.Connection, query: sa.Select[Any]) -> list[LoggedModel]:
    rows = connection.execute(query).mappings().all()
    ids = [row["id"] for row in rows]
    params: dict[str, list[Param]] = {id: [] for id in ids}
    for row in connection.execute(_of(tables.logged_model_param, ids).order_by(tables.logged_model_param.c.key)):
        params[row.model_id].append(Param(row.key, row.value))
    tags: dict[str, dict[str, str]] = {id: {} for id in ids}
    for row in connection.execute(_of(tables.logged_model_tag, ids)):
        tags[row.model_id][row.key] = row.value
    metrics: dict[str, list[ModelMetric]] = {id: [] for id in ids}
    for row in connection.execute(_of(tables.logged_model_metric, ids).order_by(tables.logged_model_metric.c.key)):
        metrics[row.model_id].append(_metric(row))
    return [
        LoggedModel(
            **{**row, "experiment_id": str(row["experiment_id"])},
            params=params[row["id"]], tags=tags[row["id"]], metrics=metrics[row["id"]],
        )
        for row in rows
    ]  # fmt: skip


def _of(table: sa.Table, ids: Sequence[str]) -> sa.Select[Any]:
    return sa.select(table).where(table.c.model_id.in_(ids))


def _update(connection: sa.Connection, id: str, **values: str | int) -> None:
    connection.execute(sa.update(tables.logged_model).where(_MODEL.id == id).values(values))


def _metric(row: sa.Row[Any]) -> ModelMetric:
    metric = Metric(
        key=row.key, value=math.nan if row.is_nan else row.value, timestamp=row.timestamp, step=row.step,
        model_id=row.model_id, dataset_name=row.dataset_name, dataset_digest=row.dataset_digest,
    )  # fmt: skip
    return ModelMetric(run_id=row.run_id, metric=metric)
