"""Evaluate: measures with intervals on labelled rows, slice by slice, and the data of the plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.estimators import Task
from mainspring.components.measures import Floats, Measure, constant_losses, measure, row_losses
from mainspring.components.plots import Plots, plot_data
from mainspring.components.scoring import load_scorer
from mainspring.components.tables import read_table, require_columns
from mainspring.components.targets import Label, Target, read_target
from mainspring.core import Corrupt, NotFound
from mainspring.pipelines import task_store
from mainspring.registry import materialise, resolve

if TYPE_CHECKING:
    import polars as pl

MIN_SLICE_ROWS = 30
MAX_SLICES = 100
"""Of each column, the largest slices."""


class SliceReport(msgspec.Struct, frozen=True, kw_only=True):
    """The measures on the rows of one slice, such as ``origin=JFK``, and its mean loss."""

    name: str
    rows: int
    loss: float
    measures: dict[str, Measure]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a model did on labelled rows.

    ``losses`` are the losses row by row (log loss in nats, or squared error), in the rows' order, so that two models
    can be compared row by row; ``constant_loss`` is the mean loss of the best constant prediction on the same rows.
    """

    task: Task
    target: str
    classes: list[Label]
    rows: int
    measures: dict[str, Measure]
    loss: float
    constant_loss: float
    base_rate: float
    losses: list[float]
    slices: list[SliceReport]
    plots: Plots


def evaluate_folder(
    data: ArtifactFile,
    *,
    model: ArtifactFile,
    evaluation: ArtifactFile,
    slices: Sequence[str] = (),
    run_id: str = "",
    trust_types: Sequence[str] = (),
) -> Report:
    """Evaluate a model that `train_model` made; write the report, and log it to the MLflow run ``run_id`` if given."""
    report = evaluate_rows(read_table(data), Path(model.path), slices=slices, trust_types=trust_types)
    write_report(report, evaluation)
    if run_id:
        _log(report, evaluation, run_id)
    return report


def evaluate_registered(
    data: ArtifactFile, *, version: str, evaluation: ArtifactFile, slices: Sequence[str] = (),
    trust_types: Sequence[str] = (),
) -> Report | None:  # fmt: skip
    """Evaluate a registered version (``models:/NAME@champion``) of this project; write ``null`` if there is none."""
    folder = find_version(version)
    if folder is None:
        Path(evaluation.path).write_bytes(b"null")
        return None
    report = evaluate_rows(read_table(data), folder, slices=slices, trust_types=trust_types)
    write_report(report, evaluation)
    return report


def evaluate_rows(
    frame: pl.DataFrame, folder: Path, *, slices: Sequence[str] = (), trust_types: Sequence[str] = ()
) -> Report:
    """Score rows through the serving code and measure them against their labels."""
    require_columns(frame, slices)
    scorer = load_scorer(folder, trust_types=trust_types)
    target = read_target(frame, scorer.target, scorer.task, scorer.classes)
    return make_report(scorer.task, scorer.target, target, scorer.scores(target.rows), slices=slices)


def make_report(task: Task, name: str, target: Target, scores: Floats, *, slices: Sequence[str] = ()) -> Report:
    """Measure scores against labels; pure."""
    losses = row_losses(task, scores, target.labels)
    return Report(
        task=task,
        target=name,
        classes=list(target.classes),
        rows=len(losses),
        measures=measure(task, scores, target.labels),
        loss=float(losses.mean()),
        constant_loss=float(constant_losses(task, target.labels).mean()),
        base_rate=float(target.labels.mean()),
        losses=[round(float(loss), 6) for loss in losses],
        slices=[found for column in slices for found in _slices(task, column, target, scores, losses)],
        plots=plot_data(task, scores, target.labels),
    )


def write_report(report: Report, evaluation: ArtifactFile) -> None:
    """Write a report as JSON; the measures go into the artifact's metadata too."""
    Path(evaluation.path).write_bytes(msgspec.json.encode(report))
    evaluation.metadata.update(values_of(report))


def read_report(evaluation: ArtifactFile) -> Report | None:
    """Read a report; None if there was no model to evaluate."""
    try:
        return msgspec.json.decode(Path(evaluation.path).read_bytes(), type=Report | None)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{evaluation.path} is not an evaluation: {error}.") from error


def values_of(report: Report) -> dict[str, float]:
    """Return the measures that are numbers, by name."""
    return {name: found.value for name, found in report.measures.items() if found.value is not None}


def find_version(version: str) -> Path | None:
    """Return the folder of a registered version of this project, or None if there is none of this name or alias."""
    if not version:
        return None
    with task_store() as store:
        try:
            with store.database.read() as connection:
                found = resolve(connection, version)
        except NotFound:
            return None
        return materialise(store.blobs, found.digest, store.settings.home / "models")


def _slices(task: Task, column: str, target: Target, scores: Floats, losses: Floats) -> list[SliceReport]:
    counts = target.rows[column].drop_nulls().value_counts(sort=True).head(MAX_SLICES)
    large = [value for value, count in counts.iter_rows() if count >= MIN_SLICE_ROWS]
    found = []
    for value in sorted(large, key=str):
        places = np.flatnonzero((target.rows[column] == value).fill_null(False).to_numpy())
        found.append(
            SliceReport(
                name=f"{column}={value}",
                rows=len(places),
                loss=float(losses[places].mean()),
                measures=measure(task, scores[places], target.labels[places]),
            )
        )
    return found


def _log(report: Report, evaluation: ArtifactFile, run_id: str) -> None:
    """Log the measures with the ends of their intervals, and the report itself."""
    import mlflow
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()
    now = client.get_run(run_id).info.start_time
    values = {f"test_{name}": value for name, value in values_of(report).items()}
    for name, found in report.measures.items():
        if found.low is not None and found.high is not None:
            values |= {f"test_{name}_low": found.low, f"test_{name}_high": found.high}
    client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in values.items()])
    client.log_artifact(run_id, evaluation.path, "evaluation")
