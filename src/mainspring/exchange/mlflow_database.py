"""Read MLflow's own database, as its server writes it: the schema of 3.x, and of 2.x where tables or columns lack.

Only columns that are there are asked for. Nothing is written.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from mainspring.core import InvalidInput, NotFound, Unavailable
from mainspring.exchange.records import BadRow, FoundExperiment, FoundModel, FoundRegistered, FoundRun, FoundVersion
from mainspring.tracking import DatasetInput, Metric, ModelLink, ModelMetric

MODEL_STATUSES = {1: "LOGGED_MODEL_PENDING", 2: "LOGGED_MODEL_READY", 3: "LOGGED_MODEL_UPLOAD_FAILED"}
DELETED_STAGE = "Deleted_Internal"
"""The stage of a version's row that only keeps its number from being used again."""
TABLES = (
    "experiments", "experiment_tags", "runs", "params", "tags", "metrics", "latest_metrics", "datasets", "inputs",
    "input_tags", "logged_models", "logged_model_params", "logged_model_tags", "logged_model_metrics",
    "registered_models", "registered_model_tags", "registered_model_aliases", "model_versions", "model_version_tags",
)  # fmt: skip
_CHUNK = 500


class MlflowDatabase:
    """MLflow's database, open for reading."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.tables = reflect(engine)

    def experiments(self) -> Iterator[FoundExperiment | BadRow]:
        """Yield all experiments."""
        tags = self._grouped("experiment_tags", "experiment_id")
        for row in self._rows("experiments", order="experiment_id"):
            id = row["experiment_id"]
            if not row["name"]:
                yield BadRow("experiment", str(id), "it has no name")
                continue
            yield FoundExperiment(
                id=str(id), name=row["name"], artifact_location=row["artifact_location"] or "",
                lifecycle_stage=row["lifecycle_stage"] or "active", created_at=row.get("creation_time") or 0,
                updated_at=row.get("last_update_time") or 0, tags=tags[id],
            )  # fmt: skip

    def count_runs(self) -> int:
        """Return how many runs there are."""
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(self.tables["runs"])).scalar_one())

    def runs(self) -> Iterator[FoundRun | BadRow]:
        """Yield all runs, oldest first, some hundred at a time."""
        table = self.tables["runs"]
        order = (table.c.start_time, table.c.run_uuid)
        with self._engine.connect() as connection:
            ids = list(connection.execute(sa.select(table.c.run_uuid).order_by(*order)).scalars())
        for start in range(0, len(ids), _CHUNK):
            yield from self._load_runs(ids[start : start + _CHUNK])

    def metrics(self, run_id: str) -> Iterator[Metric | BadRow]:
        """Yield the history of a run, streamed."""
        table = self.tables["metrics"]
        query = sa.select(table).where(table.c.run_uuid == run_id)
        with self._engine.connect().execution_options(stream_results=True, yield_per=5000) as connection:
            for row in connection.execute(query).mappings():
                try:
                    value = math.nan if row.get("is_nan") else float(row["value"])
                    step = int(row.get("step") or 0)
                    yield Metric(key=row["key"], value=value, timestamp=int(row["timestamp"]), step=step)
                except (TypeError, ValueError) as error:
                    yield BadRow("metric", f"{run_id}/{row['key']}", str(error))

    def logged_models(self) -> Iterator[FoundModel | BadRow]:
        """Yield all logged models."""
        params = self._grouped("logged_model_params", "model_id", "param_key", "param_value")
        tags = self._grouped("logged_model_tags", "model_id", "tag_key", "tag_value")
        metrics = self._model_metrics()
        for row in self._rows("logged_models", order="creation_timestamp_ms"):
            id = row["model_id"]
            yield FoundModel(
                id=id, experiment_id=str(row["experiment_id"]), name=row["name"], model_type=row["model_type"] or "",
                source_run_id=row["source_run_id"] or None, artifact_uri=row["artifact_location"],
                status=MODEL_STATUSES.get(row["status"], MODEL_STATUSES[1]),
                lifecycle_stage=row["lifecycle_stage"] or "active", created_at=row["creation_timestamp_ms"],
                updated_at=row["last_updated_timestamp_ms"], params=params[id], tags=tags[id], metrics=metrics[id],
            )  # fmt: skip

    def registered_models(self) -> Iterator[FoundRegistered | BadRow]:
        """Yield all registered models with their versions."""
        tags, aliases = self._grouped("registered_model_tags", "name"), defaultdict[str, dict[str, int]](dict)
        for row in self._rows("registered_model_aliases"):
            aliases[row["name"]][row["alias"]] = int(row["version"])
        versions = self._versions()
        for row in self._rows("registered_models", order="name"):
            name = row["name"]
            yield FoundRegistered(
                name=name, description=row.get("description") or "", created_at=row["creation_time"] or 0,
                updated_at=row["last_updated_time"] or row["creation_time"] or 0, tags=tags[name],
                aliases=aliases[name], versions=versions[name],
            )  # fmt: skip

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _load_runs(self, ids: Sequence[str]) -> Iterator[FoundRun]:
        table = self.tables["runs"]
        params, tags = self._grouped("params", "run_uuid", only=ids), self._grouped("tags", "run_uuid", only=ids)
        datasets, links = self._datasets(ids), self._links(ids)
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(table).where(table.c.run_uuid.in_(ids))).mappings().all()
        rows = {row["run_uuid"]: row for row in found}
        for id in ids:
            row = rows[id]
            yield FoundRun(
                id=id, experiment_id=str(row["experiment_id"]), user=row["user_id"] or "",
                name=tags[id].get("mlflow.runName") or row["name"] or "", status=row["status"] or "RUNNING",
                lifecycle_stage=row["lifecycle_stage"] or "active", artifact_uri=row["artifact_uri"] or "",
                start_time=row["start_time"] or 0, end_time=row["end_time"], params=params[id], tags=tags[id],
                datasets=datasets[id], models=links[id],
            )  # fmt: skip

    def _datasets(self, ids: Sequence[str]) -> defaultdict[str, list[DatasetInput]]:
        found: defaultdict[str, list[DatasetInput]] = defaultdict(list)
        if not {"datasets", "inputs", "input_tags"} <= self.tables.keys():
            return found
        dataset, link = self.tables["datasets"], self.tables["inputs"]
        query = (
            sa.select(link.c.destination_id, link.c.input_uuid, dataset)
            .join(dataset, dataset.c.dataset_uuid == link.c.source_id)
            .where(link.c.source_type == "DATASET", link.c.destination_type == "RUN", link.c.destination_id.in_(ids))
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        tags = self._grouped("input_tags", "input_uuid", "name", only=[row["input_uuid"] for row in rows])
        for row in rows:
            found[row["destination_id"]].append(
                DatasetInput(
                    name=row["name"], digest=row["digest"], source_type=row["dataset_source_type"],
                    source=row["dataset_source"], schema=row["dataset_schema"], profile=row["dataset_profile"],
                    tags=tags[row["input_uuid"]],
                )
            )  # fmt: skip
        return found

    def _links(self, ids: Sequence[str]) -> defaultdict[str, list[ModelLink]]:
        found: defaultdict[str, list[ModelLink]] = defaultdict(list)
        if "inputs" not in self.tables:
            return found
        table = self.tables["inputs"]
        kinds = {"RUN_INPUT": "input", "RUN_OUTPUT": "output"}
        query = sa.select(table).where(table.c.source_type.in_(kinds), table.c.source_id.in_(ids))
        with self._engine.connect() as connection:
            for row in connection.execute(query).mappings():
                kind = kinds[row["source_type"]]
                link = ModelLink(kind=kind, model_id=row["destination_id"], step=row.get("step") or 0)
                found[row["source_id"]].append(link)
        return found

    def _model_metrics(self) -> defaultdict[str, list[ModelMetric]]:
        found: defaultdict[str, list[ModelMetric]] = defaultdict(list)
        for row in self._rows("logged_model_metrics"):
            metric = Metric(
                key=row["metric_name"], value=math.nan if row["metric_value"] is None else row["metric_value"],
                timestamp=row["metric_timestamp_ms"], step=row["metric_step"], model_id=row["model_id"],
                dataset_name=row["dataset_name"] or "", dataset_digest=row["dataset_digest"] or "",
            )  # fmt: skip
            found[row["model_id"]].append(ModelMetric(run_id=row["run_id"], metric=metric))
        return found

    def _versions(self) -> defaultdict[str, list[FoundVersion]]:
        tags: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        for row in self._rows("model_version_tags"):
            tags[row["name"], row["version"]][row["key"]] = row["value"] or ""
        found: defaultdict[str, list[FoundVersion]] = defaultdict(list)
        for row in self._rows("model_versions", order="version"):
            if row["current_stage"] != DELETED_STAGE:
                found[row["name"]].append(_version(row, tags[row["name"], row["version"]]))
        return found

    def _rows(self, name: str, *, order: str = "") -> Iterator[Any]:
        if name not in self.tables:
            return
        table = self.tables[name]
        query = sa.select(table).order_by(table.c[order]) if order else sa.select(table)
        with self._engine.connect() as connection:
            yield from connection.execute(query).mappings().all()

    def _grouped(
        self, name: str, owner: str, key: str = "key", value: str = "value", *, only: Sequence[str] | None = None
    ) -> defaultdict[Any, dict[str, str]]:
        """Return keys and values by what they belong to."""
        found: defaultdict[Any, dict[str, str]] = defaultdict(dict)
        if name not in self.tables:
            return found
        table = self.tables[name]
        query = sa.select(table.c[owner], table.c[key], table.c[value])
        with self._engine.connect() as connection:
            rows = connection.execute(query if only is None else query.where(table.c[owner].in_(only)))
            for belongs, name_of, text in rows:
                found[belongs][name_of] = text or ""
        return found


def open_mlflow_database(url: str) -> MlflowDatabase:
    """Open MLflow's database at a SQLAlchemy URL; raise `NotFound` if there is none."""
    return MlflowDatabase(open_engine(url))


def open_engine(url: str) -> sa.Engine:
    """Open the database at a URL for MLflow's tables; raise `InvalidInput`, `NotFound` or `Unavailable`."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(
            f"{url!r} is not a database URL.", hint="Use sqlite:///mlflow.db or postgresql://…"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or not Path(parsed.database).is_file():
            raise NotFound(f"There is no database file {parsed.database}.", hint="Make it: mlflow db upgrade URL")
        return sa.create_engine(parsed)
    if backend != "postgresql":
        raise InvalidInput(f"Databases of the kind {backend!r} are not supported.", hint="Use SQLite or PostgreSQL.")
    try:
        return sa.create_engine(parsed.set(drivername="postgresql+psycopg"))
    except ModuleNotFoundError as error:
        raise Unavailable(
            "PostgreSQL needs a driver that is not installed.", hint="Run: pip install 'mainspring[postgres]'"
        ) from error


def reflect(engine: sa.Engine) -> dict[str, sa.Table]:
    """Return those of MLflow's tables that a database has; raise `InvalidInput` if it is not MLflow's."""
    metadata = sa.MetaData()
    try:
        present = set(sa.inspect(engine).get_table_names())
        metadata.reflect(engine, only=[name for name in TABLES if name in present], resolve_fks=False)
    except DatabaseError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise Unavailable(f"The database at {engine.url!r} cannot be read: {reason}") from error
    missing = {"experiments", "runs", "metrics", "params", "tags"} - metadata.tables.keys()
    if missing:
        raise InvalidInput(
            f"The database at {engine.url!r} is not MLflow's: it has no table {min(missing)}.",
            hint="Make its tables with: mlflow db upgrade URL",
        )
    return dict(metadata.tables)


def _version(row: sa.RowMapping, tags: dict[str, str]) -> FoundVersion:
    source = row["source"] or ""
    model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else ""
    return FoundVersion(
        name=row["name"], version=int(row["version"]), source=source,
        storage_location=row.get("storage_location") or "", run_id=row["run_id"] or "", logged_model_id=model_id,
        run_link=row.get("run_link") or "", description=row["description"] or "", user=row["user_id"] or "",
        stage=row["current_stage"] or "None", created_at=row["creation_time"] or 0,
        updated_at=row["last_updated_time"] or row["creation_time"] or 0, tags=tags,
    )  # fmt: skip
