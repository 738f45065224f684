"""What a run used and made: input datasets, input models, output models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mainspring.core import InvalidInput
from mainspring.db import Session, marks, session_of
from mainspring.tracking.checks import check_length

if TYPE_CHECKING:
    import sqlalchemy as sa

MAX_TAG_KEY, MAX_TAG_VALUE = 255, 500
_LIMITS = {"name": 500, "digest": 36, "source_type": 500, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}

_INSERT_DATASET = (
    "INSERT INTO input_dataset (experiment_id, name, digest, source_type, source, schema, profile) "
    "VALUES (?,?,?,?,?,?,?) ON CONFLICT (experiment_id, name, digest) DO NOTHING"
)
_INSERT_LINK = "INSERT INTO run_dataset (run, dataset_id, tags) VALUES (?,?,?) ON CONFLICT DO NOTHING"
_WRITE_MODEL = (
    "INSERT INTO run_model (run, kind, model_id, step) VALUES (?,?,?,?) "
    "ON CONFLICT (run, kind, model_id) DO UPDATE SET step = excluded.step"
)


class DatasetInput(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset a run used, as MLflow describes it."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}


class ModelLink(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model a run used (``input``) or made (``output``)."""

    kind: str
    model_id: str
    step: int = 0


def log_datasets(
    connection: sa.Connection | Session, run: int, experiment_id: str, datasets: Sequence[DatasetInput]
) -> None:
    """Record what data a run (by number) used; a dataset it has already keeps its tags."""
    session = session_of(connection)
    for dataset in datasets:
        described = {name: getattr(dataset, name) for name in _LIMITS}
        for name, limit in _LIMITS.items():
            check_length(name, described[name] or "", limit)
        if not dataset.name or not dataset.digest:
            raise InvalidInput("Dataset name and digest must not be empty.")
        for name, value in dataset.tags.items():
            check_length("key", name, MAX_TAG_KEY), check_length("value", value, MAX_TAG_VALUE)
        key = (int(experiment_id), dataset.name, dataset.digest)
        session.run(_INSERT_DATASET, (key[0], *described.values()))
        row = session.row("SELECT id FROM input_dataset WHERE experiment_id = ? AND name = ? AND digest = ?", key)
        tags = msgspec.json.encode(dataset.tags).decode()
        session.run(_INSERT_LINK, (run, row[0] if row else 0, tags))


def log_models(connection: sa.Connection | Session, run: int, links: Sequence[ModelLink]) -> None:
    """Record which logged models a run (by number) used or made."""
    session_of(connection).run_many(_WRITE_MODEL, [(run, link.kind, link.model_id, link.step) for link in links])


def datasets_of(connection: sa.Connection | Session, runs: Sequence[int]) -> dict[int, list[DatasetInput]]:
    """Return the datasets the runs used, by run number."""
    columns = ", ".join(f"d.{name}" for name in _LIMITS)
    statement = (
        f"SELECT l.run, l.tags, {columns} FROM run_dataset AS l JOIN input_dataset AS d ON d.id = l.dataset_id "  # noqa: S608 - marks and our own names
        f"WHERE l.run IN ({marks(runs)}) ORDER BY l.run, d.id"
    )
    found: dict[int, list[DatasetInput]] = {run: [] for run in runs}
    for run, tags, *values in session_of(connection).rows(statement, runs):
        read = msgspec.json.decode(tags, type=dict[str, str]) if isinstance(tags, str) else tags
        found[run].append(DatasetInput(tags=read, **dict(zip(_LIMITS, values, strict=True))))
    return found


def models_of(connection: sa.Connection | Session, runs: Sequence[int]) -> dict[int, list[ModelLink]]:
    """Return the logged models the runs used and made, by run number."""
    found: dict[int, list[ModelLink]] = {run: [] for run in runs}
    statement = f"SELECT run, kind, model_id, step FROM run_model WHERE run IN ({marks(runs)}) ORDER BY model_id"  # noqa: S608
    for run, kind, model_id, step in session_of(connection).rows(statement, runs):
        found[run].append(ModelLink(kind=kind, model_id=model_id, step=step))
    return found
