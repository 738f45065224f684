"""Search runs: MLflow's filters and orders as one query over the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import InvalidInput
from mainspring.db.tables import tracking as tables
from mainspring.tracking.experiments import STAGES
from mainspring.tracking.filters import Comparison, compare, compare_tag, parse_filter, parse_order
from mainspring.tracking.paging import check_max_results, next_token, read_offset
from mainspring.tracking.runs import Run, load_runs

_RUN = tables.run.c
_TEXT_ATTRIBUTES: dict[str, sa.ColumnElement[Any]] = {
    "run_id": _RUN.id,
    "run_name": _RUN.name,
    "Run name": _RUN.name,
    "run name": _RUN.name,
    "Run Name": _RUN.name,
    "user_id": _RUN.user,
    "status": _RUN.status,
    "artifact_uri": _RUN.artifact_uri,
}
_NUMERIC_ATTRIBUTES: dict[str, sa.ColumnElement[Any]] = {
    "start_time": _RUN.start_time,
    "end_time": _RUN.end_time,
    "created": _RUN.start_time,
    "Created": _RUN.start_time,
}
_DATASET_TAG = "mlflow.data.context"


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search."""

    runs: list[Run]
    next_page_token: str | None


def search_runs(
    connection: sa.Connection,
    experiment_ids: Sequence[str],
    *,
    filter: str = "",
    order_by: Sequence[str] = (),
    view: str = "ACTIVE_ONLY",
    max_results: int = 1000,
    page_token: str | None = None,
) -> RunPage:
    """Return the runs of these experiments that match, newest first unless ordered otherwise."""
    limit, offset = check_max_results(max_results, 50_000), read_offset(page_token)
    numbers = [int(id) for id in experiment_ids if id.isascii() and id.isdigit() and len(id) < 19]
    query = sa.select(_RUN.number).where(_RUN.experiment_id.in_(numbers), _RUN.lifecycle_stage.in_(STAGES[view]))
    for comparison in parse_filter(filter):
        query = query.where(_condition(connection, comparison))
    query = _order(query, order_by).limit(limit).offset(offset)
    found = [int(number) for number in connection.execute(query).scalars()]
    return RunPage(runs=load_runs(connection, found), next_page_token=next_token(offset, limit, len(found)))


def _condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    if comparison.kind == "metric":
        return _metric_condition(connection, comparison)
    if comparison.kind == "dataset":
        return _dataset_condition(connection, comparison)
    if comparison.kind == "attribute":
        numeric = comparison.key in _NUMERIC_ATTRIBUTES
        column = _attribute(comparison.key)
        return compare(connection, column, comparison, numeric=numeric)
    table = tables.param if comparison.kind == "param" else tables.run_tag
    return compare_tag(connection, comparison, table.c, table.c.run == _RUN.number)


def _metric_condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    latest = tables.latest_metric.c
    matches = compare(connection, latest.value, comparison, numeric=True)
    return sa.exists().where(latest.run == _RUN.number, latest.key == comparison.key, ~latest.is_nan, matches)


def _dataset_condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    link, dataset = tables.run_dataset.c, tables.input_dataset.c
    columns: dict[str, sa.ColumnElement[Any]] = {
        "name": dataset.name,
        "digest": dataset.digest,
        "context": link.tags[_DATASET_TAG].as_string(),
    }
    if comparison.key not in columns:
        raise InvalidInput(
            f"Invalid dataset key '{comparison.key}' specified.", hint="Valid keys are name, digest, context."
        )
    matches = compare(connection, columns[comparison.key], comparison, numeric=False)
    return sa.exists().where(link.run == _RUN.number, link.dataset_id == dataset.id, matches)


def _attribute(key: str) -> sa.ColumnElement[Any]:
    column = _TEXT_ATTRIBUTES.get(key, _NUMERIC_ATTRIBUTES.get(key))
    if column is None:
        known = ", ".join([*_TEXT_ATTRIBUTES, *_NUMERIC_ATTRIBUTES])
        raise InvalidInput(f"Invalid attribute key '{key[:100]}' specified.", hint=f"Valid keys are {known}.")
    return column


def _order(query: sa.Select[Any], order_by: Sequence[str]) -> sa.Select[Any]:
    """Order by the clauses; runs without the value come last, a NaN before them."""
    for clause in order_by:
        kind, key, ascends = parse_order(clause)
        column: sa.ColumnElement[Any]
        if kind == "attribute":
            column, missing = _attribute(key), _missing(_attribute(key))
        elif kind == "metric":
            latest = tables.latest_metric.alias()
            query = query.outerjoin(latest, sa.and_(latest.c.run == _RUN.number, latest.c.key == key))
            column, missing = latest.c.value, sa.case((latest.c.is_nan.is_(None), 2), (latest.c.is_nan, 1), else_=0)
        elif kind in ("param", "tag"):
            table = (tables.param if kind == "param" else tables.run_tag).alias()
            query = query.outerjoin(table, sa.and_(table.c.run == _RUN.number, table.c.key == key))
            column, missing = table.c.value, _missing(table.c.value)
        else:
            raise InvalidInput(
                f"Invalid order_by entity {kind!r}.", hint="Order by metrics, params, tags or attributes."
            )
        query = query.order_by(missing, column.asc() if ascends else column.desc())
    return query.order_by(_RUN.start_time.desc(), _RUN.id)


def _missing(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.case((column.is_(None), 1), else_=0)
