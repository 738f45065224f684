"""Which datasets the runs of experiments used, each once, for pages that offer them as filters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from mainspring.db.tables import tracking as tables
from mainspring.tracking.experiments import experiment_numbers

MAX_SUMMARIES = 1000
_CONTEXT = "mlflow.data.context"


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that runs of an experiment used, and in which context (training, …) if they said so."""

    experiment_id: str
    name: str
    digest: str
    context: str | None


def search_datasets(connection: sa.Connection, experiment_ids: Sequence[str]) -> list[DatasetSummary]:
    """Return at most `MAX_SUMMARIES` different datasets of these experiments."""
    numbers = experiment_numbers(experiment_ids)
    dataset, link = tables.input_dataset.c, tables.run_dataset.c
    context = link.tags[_CONTEXT].as_string()
    query = (
        sa.select(dataset.experiment_id, dataset.name, dataset.digest, context.label("context"))
        .select_from(sa.join(tables.input_dataset, tables.run_dataset, link.dataset_id == dataset.id))
        .where(dataset.experiment_id.in_(numbers))
        .distinct()
        .order_by(dataset.experiment_id, dataset.name, dataset.digest)
        .limit(MAX_SUMMARIES)
    )
    return [
        DatasetSummary(experiment_id=str(row.experiment_id), name=row.name, digest=row.digest, context=row.context)
        for row in connection.execute(query)
    ]
