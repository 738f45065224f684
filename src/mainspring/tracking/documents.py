"""Runs as the documents MLflow's clients read, made straight from rows: for pages of thousands of runs.

A document encodes to MLflow's Run message: ``info``, ``data``, ``inputs``, ``outputs``; what is not set is left out, as
are empty lists, and a NaN is the string ``"NaN"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mainspring.db import Row, Session, marks
from mainspring.tracking.inputs import DatasetInput, ModelLink, datasets_of, models_of
from mainspring.tracking.metrics import metric_names
from mainspring.tracking.runs import Param, Run

_CHUNK = 2000
_INFO = (
    'SELECT number, id, name, experiment_id, "user", status, start_time, artifact_uri, lifecycle_stage, end_time '
    "FROM run WHERE number IN ({})"
)


class MetricDocument(msgspec.Struct, frozen=True, gc=False):
    """A value of a metric."""

    key: str
    value: float | str
    timestamp: int
    step: int


class RunInfo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a run is; its id is there twice, under the deprecated name too."""

    run_uuid: str
    run_id: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    artifact_uri: str
    lifecycle_stage: str
    end_time: int | None = None


class RunData(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was logged to a run."""

    metrics: list[MetricDocument] = []
    params: list[Param] = []
    tags: list[Param] = []


class DatasetDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataset."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetInputDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataset a run used, with tags."""

    dataset: DatasetDocument
    tags: list[Param] = []


class ModelDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A logged model a run used or made, the latter at a step."""

    model_id: str
    step: int | None = None


class RunInputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run used."""

    dataset_inputs: list[DatasetInputDocument] = []
    model_inputs: list[ModelDocument] = []


class RunOutputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run made."""

    model_outputs: list[ModelDocument] = []


class RunDocument(msgspec.Struct, frozen=True):
    """One run."""

    info: RunInfo
    data: RunData
    inputs: RunInputs
    outputs: RunOutputs


def run_documents(session: Session, numbers: Sequence[int]) -> list[RunDocument]:
    """Return the documents of runs by their numbers, in this order."""
    found: list[RunDocument] = []
    for start in range(0, len(numbers), _CHUNK):
        found += _load(session, numbers[start : start + _CHUNK])
    return found


def run_info(session: Session, number: int) -> RunInfo:
    """Return what a run is, by its number, without what was logged to it."""
    return next(_info(row) for row in session.rows(_INFO.format("?"), (number,)))


def document_of(run: Run) -> RunDocument:
    """Return the document of a run that was just made: nothing is logged to it but tags."""
    info = RunInfo(
        run.id, run.id, run.name, run.experiment_id, run.user, run.status, run.start_time, run.artifact_uri,
        run.lifecycle_stage, run.end_time,
    )  # fmt: skip
    tags = [Param(key, value) for key, value in run.tags.items()]
    return RunDocument(info, RunData(tags=tags), _NO_INPUTS, _NO_OUTPUTS)


def metric_documents(key: str, rows: Iterable[tuple[int, int, float]]) -> list[MetricDocument]:
    """Return the rows of a history (time stamp, step, stored value) as documents; infinity is how a NaN is stored."""
    return [
        MetricDocument(key, value if value != _INFINITY else "NaN", timestamp, step) for timestamp, step, value in rows
    ]


def _load(session: Session, numbers: Sequence[int]) -> list[RunDocument]:
    these = marks(numbers)
    infos = {row[0]: _info(row) for row in session.rows(_INFO.format(these), numbers)}
    metrics = _metrics(session, numbers)
    params, tags = _keyed(session, "param", numbers), _keyed(session, "run_tag", numbers)
    datasets, models = datasets_of(session, numbers), models_of(session, numbers)
    return [
        RunDocument(
            infos[number],
            RunData(metrics[number], params[number], tags[number]),
            _inputs(datasets[number], models[number]),
            _outputs(models[number]),
        )
        for number in numbers
    ]


def _info(row: Row) -> RunInfo:
    _, id, name, experiment, user, status, start, uri, stage, end = row
    return RunInfo(id, id, name, str(experiment), user, status, start, uri, stage, end)


def _metrics(session: Session, numbers: Sequence[int]) -> dict[int, list[MetricDocument]]:
    statement = f"SELECT run, metric, value, timestamp, step, is_nan FROM metric_latest WHERE run IN ({marks(numbers)})"  # noqa: S608
    rows = session.rows(statement, numbers)
    names = metric_names(session, {row[1] for row in rows})
    found: dict[int, list[MetricDocument]] = {number: [] for number in numbers}
    for run, metric, value, timestamp, step, is_nan in rows:
        found[run].append(MetricDocument(names[metric], "NaN" if is_nan else value, timestamp, step))
    return found


def _keyed(session: Session, table: str, numbers: Sequence[int]) -> dict[int, list[Param]]:
    statement = f"SELECT run, key, value FROM {table} WHERE run IN ({marks(numbers)})"  # noqa: S608 - marks only
    found: dict[int, list[Param]] = {number: [] for number in numbers}
    for run, key, value in session.rows(statement, numbers):
        found[run].append(Param(key, value))
    return found


def _inputs(datasets: Sequence[DatasetInput], models: Sequence[ModelLink]) -> RunInputs:
    if not datasets and not models:
        return _NO_INPUTS
    described = [
        DatasetInputDocument(
            DatasetDocument(found.name, found.digest, found.source_type, found.source, found.schema, found.profile),
            [Param(key, value) for key, value in found.tags.items()],
        )
        for found in datasets
    ]
    return RunInputs(described, [ModelDocument(link.model_id) for link in models if link.kind == "input"])


def _outputs(models: Sequence[ModelLink]) -> RunOutputs:
    if not models:
        return _NO_OUTPUTS
    return RunOutputs([ModelDocument(link.model_id, link.step) for link in models if link.kind == "output"])


_INFINITY = float("inf")
_NO_INPUTS, _NO_OUTPUTS = RunInputs(), RunOutputs()
