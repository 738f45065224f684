"""Search runs: MLflow's filters and orders as one query over the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import sqlalchemy as sa

from mainspring.core import InvalidInput
from mainspring.db.tables import tracking as tables
from mainspring.tracking.experiments import STAGES, experiment_numbers
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
Order: TypeAlias = tuple[str, str, bool]
"""Kind, key, and whether it ascends."""
_DATASET_TAG = "mlflow.data.context"


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search."""

    runs: list[Run]
    next_page_token: str | None


class NumberPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search, as numbers of runs."""

    numbers: list[int]
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
    page = search_numbers(
        connection, experiment_ids, filter=filter, order_by=order_by, view=view, max_results=max_results,
        page_token=page_token,
    )  # fmt: skip
    return RunPage(runs=load_runs(connection, page.numbers), next_page_token=page.next_page_token)


def search_numbers(
    connection: sa.Connection,
    experiment_ids: Sequence[str],
    *,
    filter: str = "",
    order_by: Sequence[str] = (),
    view: str = "ACTIVE_ONLY",
    max_results: int = 1000,
    page_token: str | None = None,
) -> NumberPage:
    """Return the numbers of the runs that match, in their order."""
    limit, offset = check_max_results(max_results, 50_000), read_offset(page_token)
    query = _matching(connection, experiment_ids, filter, view)
    orders = [parse_order(clause) for clause in order_by]
    if orders and orders[0][0] == "metric":
        found = _find_by_metric(connection, query, orders, limit + 1, offset)
    else:
        found = _find(connection, _order(query, orders), limit + 1, offset)
    return NumberPage(numbers=found[:limit], next_page_token=next_token(offset, limit, len(found)))


def _matching(connection: sa.Connection, experiment_ids: Sequence[str], filter: str, view: str) -> sa.Select[Any]:
    numbers = experiment_numbers(experiment_ids)
    query = sa.select(_RUN.number).where(_RUN.experiment_id.in_(numbers), _RUN.lifecycle_stage.in_(STAGES[view]))
    for comparison in parse_filter(filter):
        query = query.where(_condition(connection, comparison))
    return query


def _find(connection: sa.Connection, query: sa.Select[Any], limit: int, offset: int) -> list[int]:
    return [row[0] for row in connection.execute(query.limit(limit).offset(offset)).all()]


def _find_by_metric(
    connection: sa.Connection, query: sa.Select[Any], orders: Sequence[Order], limit: int, offset: int
) -> list[int]:
    """Return the runs with a value along the index of values, then those with a NaN, then those without.

    Only as many entries of the index are read as the page needs, instead of sorting all runs for every page.
    """
    (_, key, ascends), *others = orders
    latest = tables.metric_latest.alias()
    mine = (latest.c.run == _RUN.number, latest.c.metric == _metric_id(key))
    valued = query.where(*mine, latest.c.is_nan == sa.false())
    value = latest.c.value.asc() if ascends else latest.c.value.desc()
    found = _find(connection, _order(valued.order_by(value), others), limit, offset)
    if len(found) < limit:
        count = connection.execute(valued.with_only_columns(sa.func.count())).scalar_one()
        is_nan = sa.exists().where(*mine, latest.c.is_nan == sa.true())
        has_value = sa.exists().where(*mine, latest.c.is_nan == sa.false())
        rest = query.where(~has_value).order_by(sa.case((is_nan, 0), else_=1))
        found += _find(connection, _order(rest, others), limit - len(found), max(0, offset - count))
    return found


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
    latest = tables.metric_latest.c
    matches = compare(connection, latest.value, comparison, numeric=True)
    mine = (latest.run == _RUN.number, latest.metric == _metric_id(comparison.key))
    if comparison.operator == "!=":  # NaN differs from every number, and is not more or less than any
        return sa.exists().where(*mine, sa.or_(latest.is_nan, matches))
    return sa.exists().where(*mine, ~latest.is_nan, matches)


def _metric_id(key: str) -> sa.ScalarSelect[int]:
    """Return the number of a metric's name, looked up once per query."""
    return sa.select(tables.metric_name.c.id).where(tables.metric_name.c.name == key).scalar_subquery()


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


def _order(query: sa.Select[Any], orders: Sequence[Order]) -> sa.Select[Any]:
    """Order by the clauses; runs without the value come last, a NaN before them."""
    for kind, key, ascends in orders:
        column: sa.ColumnElement[Any]
        if kind == "attribute":
            column, missing = _attribute(key), _missing(_attribute(key))
        elif kind == "metric":
            latest = tables.metric_latest.alias()
            mine = sa.and_(latest.c.run == _RUN.number, latest.c.metric == _metric_id(key))
            query = query.outerjoin(latest, mine)
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
