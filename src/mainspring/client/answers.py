"""MLflow's answers as they come over the wire, and what they mean in our words."""

from __future__ import annotations

import msgspec

from mainspring.client.entities import Dataset, Experiment, ModelVersion, Point, RegisteredModel, Run


class KeyValue(msgspec.Struct):
    """A tag or a param."""

    key: str
    value: str = ""


class ExperimentAnswer(msgspec.Struct):
    """MLflow's Experiment."""

    experiment_id: str
    name: str
    lifecycle_stage: str = "active"
    artifact_location: str = ""
    creation_time: int = 0
    tags: list[KeyValue] = []

    def read(self) -> Experiment:
        """Return it in our words."""
        return Experiment(
            id=self.experiment_id, name=self.name, lifecycle_stage=self.lifecycle_stage,
            artifact_location=self.artifact_location, created_at=self.creation_time, tags=_mapping(self.tags),
        )  # fmt: skip


class MetricAnswer(msgspec.Struct):
    """MLflow's Metric."""

    key: str
    value: float | str
    timestamp: int = 0
    step: int = 0

    def read(self) -> Point:
        """Return it in our words."""
        return Point(value=float(self.value), step=self.step, timestamp=self.timestamp)


class RunInfo(msgspec.Struct):
    """MLflow's RunInfo."""

    run_id: str
    experiment_id: str
    run_name: str = ""
    user_id: str = ""
    status: str = ""
    lifecycle_stage: str = "active"
    artifact_uri: str = ""
    start_time: int = 0
    end_time: int | None = None


class RunData(msgspec.Struct):
    """MLflow's RunData."""

    metrics: list[MetricAnswer] = []
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class DatasetInfo(msgspec.Struct):
    """MLflow's Dataset."""

    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""


class DatasetInput(msgspec.Struct):
    """MLflow's DatasetInput."""

    dataset: DatasetInfo
    tags: list[KeyValue] = []


class RunInputs(msgspec.Struct):
    """MLflow's RunInputs."""

    dataset_inputs: list[DatasetInput] = []


class RunAnswer(msgspec.Struct):
    """MLflow's Run."""

    info: RunInfo
    data: RunData = msgspec.field(default_factory=RunData)
    inputs: RunInputs = msgspec.field(default_factory=RunInputs)

    def read(self) -> Run:
        """Return it in our words."""
        info = self.info
        return Run(
            id=info.run_id, experiment_id=info.experiment_id, name=info.run_name, user=info.user_id,
            status=info.status, lifecycle_stage=info.lifecycle_stage, artifact_uri=info.artifact_uri,
            start_time=info.start_time, end_time=info.end_time, params=_mapping(self.data.params),
            metrics={metric.key: float(metric.value) for metric in self.data.metrics},
            tags=_mapping(self.data.tags),
            datasets=[
                Dataset(tags=_mapping(found.tags), **msgspec.structs.asdict(found.dataset))
                for found in self.inputs.dataset_inputs
            ],
        )  # fmt: skip


class AliasAnswer(msgspec.Struct):
    """MLflow's alias of a registered model."""

    alias: str
    version: str


class ModelAnswer(msgspec.Struct):
    """MLflow's RegisteredModel."""

    name: str
    description: str = ""
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    tags: list[KeyValue] = []
    aliases: list[AliasAnswer] = []

    def read(self) -> RegisteredModel:
        """Return it in our words."""
        return RegisteredModel(
            name=self.name, description=self.description, created_at=self.creation_timestamp,
            updated_at=self.last_updated_timestamp, tags=_mapping(self.tags),
            aliases={found.alias: found.version for found in self.aliases},
        )  # fmt: skip


class VersionAnswer(msgspec.Struct):
    """MLflow's ModelVersion."""

    name: str
    version: str
    description: str = ""
    source: str = ""
    run_id: str = ""
    status: str = ""
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    tags: list[KeyValue] = []
    aliases: list[str] = []

    def read(self) -> ModelVersion:
        """Return it in our words."""
        return ModelVersion(
            name=self.name, version=self.version, description=self.description, source=self.source,
            run_id=self.run_id, status=self.status, created_at=self.creation_timestamp,
            updated_at=self.last_updated_timestamp, tags=_mapping(self.tags), aliases=self.aliases,
        )  # fmt: skip


class Page(msgspec.Struct):
    """A page of anything: the list that is asked for, and where the next page is."""

    experiments: list[ExperimentAnswer] = []
    runs: list[RunAnswer] = []
    metrics: list[MetricAnswer] = []
    registered_models: list[ModelAnswer] = []
    model_versions: list[VersionAnswer] = []
    next_page_token: str = ""


class One(msgspec.Struct):
    """One of anything."""

    experiment: ExperimentAnswer | None = None
    run: RunAnswer | None = None
    registered_model: ModelAnswer | None = None
    model_version: VersionAnswer | None = None


def _mapping(pairs: list[KeyValue]) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}
