"""Experiments and their runs: what was tried, with which parameters, and what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from mainspring.blobs import TreeFile
from mainspring.console.charts import Chart, Point, Series
from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import to
from mainspring.core import InvalidInput
from mainspring.lineage import Store
from mainspring.tracking import (
    Band,
    Experiment,
    Run,
    find_run,
    get_experiment,
    get_run,
    metric_bands,
    path_of_uri,
    search_experiments,
    search_runs,
)
from mainspring.tracking.artifacts import list_tree

SHOWN = 200
COLUMNS = 5
"""How many metrics, and how many parameters, a table of runs shows."""
CURVES = 12
BANDS = 300
"""How many points a curve has at most; where it has fewer than the history, each shows how low and high it reaches."""
FILES = 200


class Experiments(msgspec.Struct, frozen=True, kw_only=True):
    """All experiments."""

    head: Head
    rows: list[Experiment]


class ExperimentPage(msgspec.Struct, frozen=True, kw_only=True):
    """The newest runs of an experiment; ``metrics`` and ``params`` are the columns: params only where runs differ."""

    head: Head
    experiment: Experiment
    runs: list[Run]
    metrics: list[str]
    params: list[str]
    filter: str
    limit: int


class TrackingRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run with the curves of the metrics that have a history."""

    head: Head
    run: Run
    duration_ms: int | None
    curves: list[Chart]
    more_metrics: int
    files: list[TreeFile]
    more_files: int


def show_experiments(store: Store) -> Experiments:
    """Show all experiments, newest first."""
    with store.database.read() as connection:
        rows = search_experiments(connection, max_results=1000).experiments
    head = _head(store, "Experiments", "/experiments", "mlflow.search_experiments()")
    return Experiments(head=head, rows=rows)


def show_experiment(store: Store, id: str, *, filter: str = "") -> ExperimentPage:
    """Show the newest runs of an experiment that match MLflow's filter language; raise `NotFound`."""
    with store.database.read() as connection:
        experiment = get_experiment(connection, id)
        runs = search_runs(connection, [id], filter=filter, max_results=SHOWN).runs
    call = f"mlflow.search_runs({[id]!r}" + (f", {filter!r})" if filter else ")")
    return ExperimentPage(
        head=_head(store, f"Experiment {experiment.name}", to("experiments", id), call),
        experiment=experiment,
        runs=runs,
        metrics=_most_common([metric.key for run in runs for metric in run.metrics]),
        params=_differing(runs),
        filter=filter,
        limit=SHOWN,
    )


def show_tracking_run(store: Store, id: str) -> TrackingRun:
    """Show one run; raise `NotFound`."""
    with store.database.read() as connection:
        run = get_run(connection, id)
        curves, others = _curves(connection, run)
        files = _files(connection, store, run)
    return TrackingRun(
        head=_head(store, f"Run {run.name}", to("tracking", id), f"mlflow.get_run({id!r})"),
        run=run,
        duration_ms=run.end_time - run.start_time if run.end_time else None,
        curves=curves,
        more_metrics=others,
        files=files[:FILES],
        more_files=max(0, len(files) - FILES),
    )


def _curves(connection: sa.Connection, run: Run) -> tuple[list[Chart], int]:
    """Return the curves of the first metrics that have more than one point, and how many metrics come after them."""
    number = find_run(connection, run.id, stage=None).number
    charts: list[Chart] = []
    for place, metric in enumerate(run.metrics):
        if len(charts) == CURVES:
            return charts, len(run.metrics) - place
        points = [_point(band) for band in metric_bands(connection, number, metric.key, limit=BANDS)]
        if len(points) > 1:
            series = [Series(name=metric.key, points=points)]
            charts.append(Chart(title=metric.key, y_label=f"{metric.key} by step", series=series, time_axis=False))
    return charts, 0


def _point(band: Band) -> Point:
    if band.count == 1:
        return Point(x=band.first_step, y=band.mean)
    middle = (band.first_step + band.last_step) / 2
    return Point(x=middle, y=band.mean, n=band.count, low=band.low, high=band.high)


def _files(connection: sa.Connection, store: Store, run: Run) -> list[TreeFile]:
    try:
        return list_tree(connection, store.blobs, path_of_uri(run.artifact_uri))
    except InvalidInput:  # a client may have said that its artifacts live elsewhere
        return []


def _most_common(names: Sequence[str]) -> list[str]:
    return [name for name, _ in Counter(names).most_common(COLUMNS)]


def _differing(runs: Sequence[Run]) -> list[str]:
    values: dict[str, set[str]] = {}
    for run in runs:
        for param in run.params:
            values.setdefault(param.key, set()).add(param.value)
    return [name for name, found in values.items() if len(found) > 1][:COLUMNS]


def _head(store: Store, title: str, path: str, call: str) -> Head:
    command = f"curl -s {store.settings.server_url}{path}.json"
    return head_of(store.clock, title, "runs", command=command, python=call)
