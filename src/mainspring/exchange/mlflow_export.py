"""Give everything back to MLflow: into a database with MLflow's own tables, and a folder of artifacts beside it.

An unmodified ``mlflow server --backend-store-uri URL --artifacts-destination FOLDER`` then serves it. Ids stay, rows
that are there are left alone, so it can be repeated.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mainspring.blobs import TreeFile, get_tree, read_tree
from mainspring.core import InvalidInput, MainspringError
from mainspring.exchange.mlflow_database import MODEL_STATUSES, TABLES, open_engine, reflect
from mainspring.exchange.reading import all_experiments, all_files, all_logged_models, all_runs, count_runs, metrics_of
from mainspring.exchange.records import BadRow, Progress
from mainspring.lineage import Store
from mainspring.registry import ModelVersion, RegisteredModel, list_models, list_versions
from mainspring.tracking import Experiment, LoggedModel, Metric, Run

_NAMESPACE = uuid.UUID("8e3c5b1e-6d0b-4c57-9a57-7b8d1b0f5a11")
_STATUS_NUMBERS = {name: number for number, name in MODEL_STATUSES.items()}
_CHUNK = 10_000
Row = dict[str, Any]


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of each table were there to write, and what could not be written."""

    rows: dict[str, int]
    files: int
    bad: list[BadRow]


def export_mlflow(store: Store, url: str, artifacts: Path, *, progress: Progress) -> ExportReport:
    """Write everything into MLflow's database at ``url`` and the files into ``artifacts``.

    The database must have MLflow's tables: ``mlflow db upgrade URL`` makes them.
    """
    engine = open_engine(url)
    try:
        return Exporter(store, engine, artifacts, progress).run()
    finally:
        engine.dispose()


class Exporter:
    """One export under way."""

    def __init__(self, store: Store, engine: sa.Engine, artifacts: Path, progress: Progress) -> None:
        self._store = store
        self._engine = engine
        self._tables = reflect(engine)
        self._artifacts = artifacts
        self._progress = progress
        self._rows: Counter[str] = Counter()
        self._files = 0
        self._bad: list[BadRow] = []
        self._experiments: dict[str, int] = {}
        self._waiting: defaultdict[str, list[Row]] = defaultdict(list)

    def run(self) -> ExportReport:
        """Write tables in the order in which they refer to each other, then the files."""
        with self._store.database.read() as connection:
            for experiment in all_experiments(connection):
                self._put_experiment(experiment)
            total = count_runs(connection)
            for number, run in enumerate(all_runs(connection)):
                self._progress("runs", number, total)
                self._put_run(connection, run)
            self._progress("runs", total, total)
            for model in all_logged_models(connection):
                self._put_logged_model(model)
            for registered in list_models(connection):
                self._put_registered(registered, list_versions(connection, registered.name))
            files = all_files(connection)
        self._flush()
        for number, file in enumerate(files):
            self._progress("artifacts", number, len(files))
            self._copy(file)
        self._progress("artifacts", len(files), len(files))
        return ExportReport(rows=dict(self._rows), files=self._files, bad=self._bad)

    def _put_experiment(self, found: Experiment) -> None:
        table = self._tables["experiments"]
        with self._engine.connect() as connection:
            there = connection.execute(sa.select(table.c.experiment_id).where(table.c.name == found.name)).scalar()
            taken = connection.execute(sa.select(table.c.name).where(table.c.experiment_id == int(found.id))).scalar()
        if there is None and taken is not None:
            raise InvalidInput(
                f"Experiment {found.id} is {taken!r} in MLflow's database and {found.name!r} here.",
                hint="Export into a database of its own.",
            )
        number = int(found.id) if there is None else int(there)
        self._experiments[found.id] = number
        row = {
            "experiment_id": number, "name": found.name, "artifact_location": found.artifact_location,
            "lifecycle_stage": found.lifecycle_stage, "creation_time": found.created_at,
            "last_update_time": found.updated_at,
        }  # fmt: skip
        tags = [{"experiment_id": number, "key": key, "value": value} for key, value in found.tags.items()]
        self._insert({"experiments": [] if there is not None else [row], "experiment_tags": tags})

    def _put_run(self, connection: sa.Connection, found: Run) -> None:
        number = self._experiments[found.experiment_id]
        row = {
            "run_uuid": found.id, "name": found.name, "user_id": found.user, "status": found.status,
            "start_time": found.start_time, "end_time": found.end_time, "lifecycle_stage": found.lifecycle_stage,
            "artifact_uri": found.artifact_uri, "experiment_id": number, "source_type": "UNKNOWN", "source_name": "",
            "entry_point_name": "", "source_version": "",
        }  # fmt: skip
        self._insert(
            {
                "runs": [row],
                "params": [{"run_uuid": found.id, "key": param.key, "value": param.value} for param in found.params],
                "tags": [{"run_uuid": found.id, "key": key, "value": value} for key, value in found.tags.items()],
                "latest_metrics": [_metric_row(found.id, metric) for metric in found.metrics],
                **self._inputs(found, number),
            }
        )
        for metrics in _chunks(metrics_of(connection, found)):
            self._insert({"metrics": [_metric_row(found.id, metric) for metric in metrics]})

    def _inputs(self, found: Run, experiment: int) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {"datasets": [], "inputs": [], "input_tags": []}
        for dataset in found.datasets:
            id = _uuid("dataset", experiment, dataset.name, dataset.digest)
            link = _uuid("input", found.id, id)
            described = {
                "dataset_source_type": dataset.source_type, "dataset_source": dataset.source,
                "dataset_schema": dataset.schema, "dataset_profile": dataset.profile,
            }  # fmt: skip
            rows["datasets"].append(
                {"dataset_uuid": id, "experiment_id": experiment, "name": dataset.name, "digest": dataset.digest}
                | described
            )
            rows["inputs"].append(_input_row(link, "DATASET", id, "RUN", found.id, 0))
            rows["input_tags"] += [{"input_uuid": link, "name": k, "value": v} for k, v in dataset.tags.items()]
        for model in found.models:
            kind = model.kind.upper()
            link = _uuid(kind, found.id, model.model_id)
            rows["inputs"].append(
                _input_row(link, f"RUN_{kind}", found.id, f"MODEL_{kind}", model.model_id, model.step)
            )
        return rows

    def _put_logged_model(self, found: LoggedModel) -> None:
        number = self._experiments[found.experiment_id]
        owner = {"model_id": found.id, "experiment_id": number}
        row = owner | {
            "name": found.name, "artifact_location": found.artifact_uri, "creation_timestamp_ms": found.created_at,
            "last_updated_timestamp_ms": found.updated_at, "status": _STATUS_NUMBERS.get(found.status, 1),
            "lifecycle_stage": found.lifecycle_stage, "model_type": found.model_type,
            "source_run_id": found.source_run_id,
        }  # fmt: skip
        metrics = [
            owner | {
                "run_id": measured.run_id, "metric_name": measured.metric.key,
                "metric_timestamp_ms": measured.metric.timestamp, "metric_step": measured.metric.step,
                "metric_value": None if math.isnan(measured.metric.value) else measured.metric.value,
                "dataset_name": measured.metric.dataset_name or None,
                "dataset_digest": measured.metric.dataset_digest or None,
            }
            for measured in found.metrics
        ]  # fmt: skip
        self._insert(
            {
                "logged_models": [row],
                "logged_model_params": [owner | {"param_key": p.key, "param_value": p.value} for p in found.params],
                "logged_model_tags": [owner | {"tag_key": k, "tag_value": v} for k, v in found.tags.items()],
                "logged_model_metrics": metrics,
            }
        )

    def _put_registered(self, found: RegisteredModel, versions: Sequence[ModelVersion]) -> None:
        name = {"name": found.name}
        row = name | {
            "creation_time": found.created_at, "last_updated_time": found.updated_at,
            "description": found.description or None,
        }  # fmt: skip
        self._insert(
            {
                "registered_models": [row],
                "registered_model_tags": [name | {"key": k, "value": v} for k, v in found.tags.items()],
                "model_versions": [self._version_row(version) for version in versions],
                "model_version_tags": [
                    name | {"version": int(version.version), "key": key, "value": value}
                    for version in versions
                    for key, value in version.tags.items()
                ],
                "registered_model_aliases": [
                    name | {"alias": alias, "version": int(version)} for alias, version in found.aliases.items()
                ],
            }
        )

    def _version_row(self, found: ModelVersion) -> Row:
        """Return the row of a version, with its frozen files in a folder named by their digest."""
        location = found.source
        if read_tree(self._store.blobs, found.digest):
            folder = f"versions/{found.digest.removeprefix('sha256:')}"
            if not (self._artifacts / folder).is_dir():
                get_tree(self._store.blobs, found.digest, self._artifacts / folder)
                self._files += 1
            location = f"mlflow-artifacts:/{folder}"
        return {
            "name": found.name, "version": int(found.version), "creation_time": found.created_at,
            "last_updated_time": found.updated_at, "description": found.description or None, "user_id": found.user,
            "current_stage": found.stage, "source": found.source, "run_id": found.run_id or None, "status": "READY",
            "run_link": found.run_link, "storage_location": location,
        }  # fmt: skip

    def _copy(self, file: TreeFile) -> None:
        target = self._artifacts / file.path
        if target.is_file() and target.stat().st_size == file.size:
            return
        try:
            self._store.blobs.copy_to(file.digest, target)
            self._files += 1
        except (MainspringError, OSError) as error:
            self._bad.append(BadRow("artifact", file.path, str(error)))

    def _insert(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Keep rows until there are enough to write."""
        for name, found in rows.items():
            if name in self._tables:
                self._waiting[name] += found
                self._rows[name] += len(found)
        if sum(map(len, self._waiting.values())) > _CHUNK:
            self._flush()

    def _flush(self) -> None:
        """Insert the rows that are not there, of the columns that the tables have, in one transaction."""
        with self._engine.begin() as connection:
            for name in TABLES:
                found = self._waiting.pop(name, [])
                if not found:
                    continue
                table = self._tables[name]
                kept = [{key: value for key, value in row.items() if key in table.c} for row in found]
                insert = postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)
                connection.execute(insert.on_conflict_do_nothing(), kept)


def _metric_row(run_id: str, metric: Metric) -> Row:
    is_nan = math.isnan(metric.value)
    return {
        "run_uuid": run_id, "key": metric.key, "value": 0.0 if is_nan else metric.value,
        "timestamp": metric.timestamp, "step": metric.step, "is_nan": is_nan,
    }  # fmt: skip


def _input_row(id: str, source_type: str, source: str, destination_type: str, destination: str, step: int) -> Row:
    return {
        "input_uuid": id, "source_type": source_type, "source_id": source, "destination_type": destination_type,
        "destination_id": destination, "step": step,
    }  # fmt: skip


def _uuid(*parts: object) -> str:
    """Return the same id for the same thing every time."""
    return uuid.uuid5(_NAMESPACE, "/".join(map(str, parts))).hex


def _chunks(metrics: Iterable[Metric]) -> Iterator[list[Metric]]:
    chunk: list[Metric] = []
    for metric in metrics:
        chunk.append(metric)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
