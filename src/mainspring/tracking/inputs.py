"""What a run used and made: input datasets, input models, output models."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from mainspring.core import InvalidInput
from mainspring.db.tables import tracking as tables
from mainspring.tracking.checks import check_length
from mainspring.tracking.upserts import upsert

_LIMITS = {"name": 500, "digest": 36, "source_type": 500, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}


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


def log_datasets(connection: sa.Connection, run: int, experiment_id: str, datasets: Sequence[DatasetInput]) -> None:
    """Record what data a run (by number) used; a dataset it has already keeps its tags."""
    table = tables.input_dataset
    for dataset in datasets:
        described = {name: getattr(dataset, name) for name in _LIMITS}
        for name, limit in _LIMITS.items():
            check_length(f"Dataset {name}", described[name] or "", limit)
        if not dataset.name or not dataset.digest:
            raise InvalidInput("Dataset name and digest must not be empty.")
        values = {"experiment_id": int(experiment_id), **described}
        upsert(connection, table, [values], keys=("experiment_id", "name", "digest"), update=())
        where = (table.c.experiment_id == int(experiment_id), table.c.name == dataset.name)
        id = connection.execute(sa.select(table.c.id).where(*where, table.c.digest == dataset.digest)).scalar_one()
        link = {"run": run, "dataset_id": id, "tags": dataset.tags}
        upsert(connection, tables.run_dataset, [link], keys=("run", "dataset_id"), update=())


def log_models(connection: sa.Connection, run: int, links: Sequence[ModelLink]) -> None:
    """Record which logged models a run (by number) used or made."""
    rows = [{"run": run, "kind": link.kind, "model_id": link.model_id, "step": link.step} for link in links]
    upsert(connection, tables.run_model, rows, keys=("run", "kind", "model_id"), update=("step",))


def datasets_of(connection: sa.Connection, runs: Sequence[int]) -> dict[int, list[DatasetInput]]:
    """Return the datasets the runs used, by run number."""
    link, dataset = tables.run_dataset, tables.input_dataset
    query = (
        sa.select(link.c.run, link.c.tags, *(dataset.c[name] for name in _LIMITS))
        .join(dataset, dataset.c.id == link.c.dataset_id)
        .where(link.c.run.in_(runs))
        .order_by(link.c.run, dataset.c.id)
    )
    found: dict[int, list[DatasetInput]] = {run: [] for run in runs}
    for row in connection.execute(query).mappings():
        found[row["run"]].append(DatasetInput(tags=row["tags"], **{name: row[name] for name in _LIMITS}))
    return found


def models_of(connection: sa.Connection, runs: Sequence[int]) -> dict[int, list[ModelLink]]:
    """Return the logged models the runs used and made, by run number."""
    table = tables.run_model
    found: dict[int, list[ModelLink]] = {run: [] for run in runs}
    for row in connection.execute(sa.select(table).where(table.c.run.in_(runs)).order_by(table.c.model_id)):
        found[row.run].append(ModelLink(kind=row.kind, model_id=row.model_id, step=row.step))
    return found
