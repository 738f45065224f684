"""What a server tells about experiments, runs and models, typed. Times are ms since the epoch (UTC)."""

from __future__ import annotations

import msgspec


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A group of runs."""

    id: str
    name: str
    lifecycle_stage: str
    artifact_location: str
    created_at: int
    tags: dict[str, str]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One logged value."""

    value: float
    step: int
    timestamp: int


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset a run used."""

    name: str
    digest: str
    source_type: str
    source: str
    tags: dict[str, str]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run with its params, tags and the latest value of each metric."""

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
    metrics: dict[str, float]
    tags: dict[str, str]
    datasets: list[Dataset]


class RegisteredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A name with versions; ``aliases`` maps each alias to its version."""

    name: str
    description: str
    created_at: int
    updated_at: int
    tags: dict[str, str]
    aliases: dict[str, str]


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version of a registered model."""

    name: str
    version: str
    description: str
    source: str
    run_id: str
    status: str
    created_at: int
    updated_at: int
    tags: dict[str, str]
    aliases: list[str]
