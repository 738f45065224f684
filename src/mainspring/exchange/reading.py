"""Read everything there is in our store, through the rooms' own searches."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from mainspring.blobs import TreeFile
from mainspring.db.tables import tracking as tables
from mainspring.tracking import (
    Experiment,
    LoggedModel,
    Metric,
    Run,
    find_run,
    get_logged_model,
    metric_history,
    search_experiments,
    search_runs,
)

_PAGE = 1000


def all_experiments(connection: sa.Connection) -> list[Experiment]:
    """Return all experiments, deleted ones too, oldest first."""
    found: list[Experiment] = []
    token: str | None = None
    while True:
        page = search_experiments(
            connection, view="ALL", order_by=("creation_time ASC",), max_results=_PAGE, page_token=token
        )
        found += page.experiments
        if not page.next_page_token:
            return found
        token = page.next_page_token


def count_runs(connection: sa.Connection) -> int:
    """Return how many runs there are, deleted ones too."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(tables.run)).scalar_one())


def all_runs(connection: sa.Connection) -> Iterator[Run]:
    """Yield all runs, deleted ones too, experiment by experiment, oldest first."""
    for experiment in all_experiments(connection):
        token: str | None = None
        while True:
            page = search_runs(
                connection, [experiment.id], view="ALL", order_by=("start_time ASC",), max_results=_PAGE,
                page_token=token,
            )  # fmt: skip
            yield from page.runs
            if not page.next_page_token:
                break
            token = page.next_page_token


def metrics_of(connection: sa.Connection, run: Run) -> Iterator[Metric]:
    """Yield the whole history of every metric of a run."""
    number = find_run(connection, run.id, stage=None).number
    for metric in run.metrics:
        yield from metric_history(connection, number, metric.key)


def all_logged_models(connection: sa.Connection) -> Iterator[LoggedModel]:
    """Yield all logged models, deleted ones too, oldest first."""
    table = tables.logged_model
    for id in list(connection.execute(sa.select(table.c.id).order_by(table.c.created_at, table.c.id)).scalars()):
        yield get_logged_model(connection, id, allow_deleted=True)


def all_files(connection: sa.Connection) -> list[TreeFile]:
    """Return every artifact by its path below the proxied root."""
    table = tables.artifact_file
    rows = connection.execute(sa.select(table.c.path, table.c.size, table.c.digest).order_by(table.c.path))
    return [TreeFile(row.path, row.size, row.digest) for row in rows]
