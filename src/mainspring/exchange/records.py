"""What an MLflow store holds, in one shape for its database and for its file store. Times in ms since the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from mainspring.tracking import DatasetInput, Metric, ModelLink, ModelMetric

Progress = Callable[[str, int, int], None]
"""Called with what is being moved, how many are done and how many there are."""


class BadRow(msgspec.Struct, frozen=True):
    """Something that could not be taken over, and why."""

    kind: str
    id: str
    reason: str


class FoundExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment."""

    id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    created_at: int
    updated_at: int
    tags: dict[str, str]


class FoundRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run without its metrics, which can be many."""

    id: str
    experiment_id: str
    name: str
    user: str
    status: str
    lifecycle_stage: str
    artifact_uri: str
    start_time: int
    end_time: int | None
    params: dict[str, str]
    tags: dict[str, str]
    datasets: list[DatasetInput]
    models: list[ModelLink]


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model; ``metrics`` are the latest of each run and dataset."""

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
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[ModelMetric]


class FoundVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a registered model."""

    name: str
    version: int
    source: str
    storage_location: str
    run_id: str
    logged_model_id: str
    run_link: str
    description: str
    user: str
    stage: str
    created_at: int
    updated_at: int
    tags: dict[str, str]


class FoundRegistered(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model with its versions, oldest first."""

    name: str
    description: str
    created_at: int
    updated_at: int
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: list[FoundVersion]


class MlflowStore(Protocol):
    """An MLflow store to read from. What cannot be read comes as a `BadRow`."""

    def experiments(self) -> Iterator[FoundExperiment | BadRow]:
        """Yield all experiments, deleted ones too."""
        ...

    def count_runs(self) -> int:
        """Return how many runs there are."""
        ...

    def runs(self) -> Iterator[FoundRun | BadRow]:
        """Yield all runs, deleted ones too."""
        ...

    def metrics(self, run_id: str) -> Iterator[Metric | BadRow]:
        """Yield the whole history of all metrics of a run."""
        ...

    def logged_models(self) -> Iterator[FoundModel | BadRow]:
        """Yield all logged models, deleted ones too."""
        ...

    def registered_models(self) -> Iterator[FoundRegistered | BadRow]:
        """Yield all registered models."""
        ...

    def close(self) -> None:
        """Let the store go."""
        ...
