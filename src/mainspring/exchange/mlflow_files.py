"""Read MLflow's file store, the folder ``mlruns``: YAML for what things are, a file per param, tag and metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mainspring.core import NotFound
from mainspring.exchange.mlflow_database import DELETED_STAGE, MODEL_STATUSES
from mainspring.exchange.records import BadRow, FoundExperiment, FoundModel, FoundRegistered, FoundRun, FoundVersion
from mainspring.tracking import DatasetInput, Metric, ModelLink, ModelMetric

RUN_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_META = "meta.yaml"
_OTHER_FOLDERS = ("models", "datasets", "traces", "tags")
_BROKEN = (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError)
T = TypeVar("T")


class MlflowFiles:
    """A folder ``mlruns``, open for reading."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def experiments(self) -> Iterator[FoundExperiment | BadRow]:
        """Yield all experiments, those in the trash too."""
        for folder in self._experiment_folders():
            yield _read("experiment", folder, _experiment)

    def count_runs(self) -> int:
        """Return how many runs there are."""
        return sum(1 for _ in self._run_folders())

    def runs(self) -> Iterator[FoundRun | BadRow]:
        """Yield all runs."""
        for folder in self._run_folders():
            yield _read("run", folder, _run)

    def metrics(self, run_id: str) -> Iterator[Metric | BadRow]:
        """Yield the history of a run."""
        folder = next(folder for folder in self._run_folders() if folder.name == run_id)
        for key, path in _files(folder / "metrics"):
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                try:
                    timestamp, value, *rest = line.split()
                    yield Metric(
                        key=key, value=float(value), timestamp=int(timestamp), step=int(rest[0]) if rest else 0
                    )
                except ValueError as error:
                    yield BadRow("metric", f"{run_id}/{key}:{number}", str(error))

    def logged_models(self) -> Iterator[FoundModel | BadRow]:
        """Yield all logged models."""
        for experiment in self._experiment_folders():
            for folder in sorted((experiment / "models").glob("m-*")):
                yield _read("logged model", folder, _model)

    def registered_models(self) -> Iterator[FoundRegistered | BadRow]:
        """Yield all registered models with their versions."""
        for folder in sorted((self._root / "models").glob("*")):
            if (folder / _META).is_file():
                yield _read("registered model", folder, _registered)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _experiment_folders(self) -> Iterator[Path]:
        for parent in (self._root, self._root / ".trash"):
            for folder in sorted(parent.glob("*")):
                if folder.name.isdigit() and folder.is_dir():
                    yield folder

    def _run_folders(self) -> Iterator[Path]:
        for experiment in self._experiment_folders():
            for folder in sorted(experiment.glob("*")):
                if folder.is_dir() and folder.name not in _OTHER_FOLDERS:
                    yield folder


def open_mlflow_files(root: Path) -> MlflowFiles:
    """Open a folder ``mlruns``; raise `NotFound` if it is none."""
    if not root.is_dir() or not any(root.glob(f"*/{_META}")):
        raise NotFound(f"There is no MLflow file store in {root}.", hint="Name the folder mlruns, or a database URL.")
    return MlflowFiles(root)


def _read(kind: str, folder: Path, read: Callable[[Path, dict[str, Any]], T]) -> T | BadRow:
    try:
        return read(folder, _meta(folder))
    except _BROKEN as error:
        return BadRow(kind, folder.name, f"{type(error).__name__}: {error}".splitlines()[0])


def _experiment(folder: Path, meta: Mapping[str, Any]) -> FoundExperiment:
    return FoundExperiment(
        id=str(meta["experiment_id"]), name=str(meta["name"]), artifact_location=str(meta["artifact_location"] or ""),
        lifecycle_stage=str(meta["lifecycle_stage"]), created_at=int(meta.get("creation_time") or 0),
        updated_at=int(meta.get("last_update_time") or 0), tags=_texts(folder / "tags"),
    )  # fmt: skip


def _run(folder: Path, meta: Mapping[str, Any]) -> FoundRun:
    tags = _texts(folder / "tags")
    status = meta["status"]
    links = [_link(path) for path in _metas(folder / "inputs") if path["source_type"] != "DATASET"]
    links += [_link(path) for path in _metas(folder / "outputs")]
    return FoundRun(
        id=str(meta.get("run_id") or meta["run_uuid"]), experiment_id=str(meta["experiment_id"]),
        name=tags.get("mlflow.runName") or str(meta.get("run_name") or ""), user=str(meta.get("user_id") or ""),
        status=RUN_STATUSES[int(status)] if str(status).isdigit() else str(status),
        lifecycle_stage=str(meta["lifecycle_stage"]), artifact_uri=str(meta["artifact_uri"]),
        start_time=int(meta["start_time"] or 0), end_time=meta.get("end_time"), params=_texts(folder / "params"),
        tags=tags, datasets=list(_datasets(folder)), models=links,
    )  # fmt: skip


def _datasets(run: Path) -> Iterator[DatasetInput]:
    for link in _metas(run / "inputs"):
        if link["source_type"] == "DATASET":
            meta = _meta(run.parent / "datasets" / str(link["source_id"]))
            yield DatasetInput(
                name=meta["name"], digest=str(meta["digest"]), source_type=meta["source_type"], source=meta["source"],
                schema=meta.get("schema"), profile=meta.get("profile"),
                tags={str(key): str(value) for key, value in (link.get("tags") or {}).items()},
            )  # fmt: skip


def _link(meta: Mapping[str, Any]) -> ModelLink:
    kind = "output" if meta["source_type"] == "RUN_OUTPUT" else "input"
    return ModelLink(kind=kind, model_id=str(meta["destination_id"]), step=int(meta.get("step") or 0))


def _model(folder: Path, meta: Mapping[str, Any]) -> FoundModel:
    return FoundModel(
        id=str(meta["model_id"]), experiment_id=str(meta["experiment_id"]), name=str(meta["name"]),
        model_type=str(meta.get("model_type") or ""), source_run_id=meta.get("source_run_id") or None,
        artifact_uri=str(meta["artifact_location"]), status=MODEL_STATUSES.get(meta["status"], MODEL_STATUSES[1]),
        lifecycle_stage=str(meta.get("lifecycle_stage") or "active"), created_at=int(meta["creation_timestamp"]),
        updated_at=int(meta["last_updated_timestamp"]), params=_texts(folder / "params"),
        tags=_texts(folder / "tags"), metrics=list(_model_metrics(folder, str(meta["model_id"]))),
    )  # fmt: skip


def _model_metrics(folder: Path, model_id: str) -> Iterator[ModelMetric]:
    for key, path in _files(folder / "metrics"):
        for line in path.read_text(errors="replace").splitlines():
            timestamp, value, step, run_id, *dataset = line.split()
            name, digest = (*dataset, "", "")[:2]
            metric = Metric(
                key=key, value=float(value), timestamp=int(timestamp), step=int(step), model_id=model_id,
                dataset_name=name, dataset_digest=digest,
            )  # fmt: skip
            yield ModelMetric(run_id=run_id, metric=metric)


def _registered(folder: Path, meta: Mapping[str, Any]) -> FoundRegistered:
    name = str(meta["name"])
    versions = [_version(path.parent, name) for path in folder.glob(f"version-*/{_META}")]
    return FoundRegistered(
        name=name, description=str(meta.get("description") or ""), created_at=int(meta["creation_timestamp"] or 0),
        updated_at=int(meta["last_updated_timestamp"] or 0), tags=_texts(folder / "tags"),
        aliases={alias: int(version) for alias, version in _texts(folder / "aliases").items()},
        versions=sorted(
            (version for version in versions if version.stage != DELETED_STAGE), key=lambda found: found.version
        ),
    )  # fmt: skip


def _version(folder: Path, name: str) -> FoundVersion:
    meta = _meta(folder)
    return FoundVersion(
        name=name, version=int(meta["version"]), source=str(meta["source"] or ""),
        storage_location=str(meta.get("storage_location") or ""), run_id=str(meta.get("run_id") or ""),
        logged_model_id=str(meta.get("model_id") or ""), run_link=str(meta.get("run_link") or ""),
        description=str(meta.get("description") or ""), user=str(meta.get("user_id") or ""),
        stage=str(meta.get("current_stage") or "None"), created_at=int(meta["creation_timestamp"] or 0),
        updated_at=int(meta["last_updated_timestamp"] or 0), tags=_texts(folder / "tags"),
    )  # fmt: skip


def _meta(folder: Path) -> dict[str, Any]:
    document = yaml.safe_load((folder / _META).read_bytes())
    if not isinstance(document, dict):
        raise ValueError(f"{folder / _META} is not a mapping")
    return document


def _metas(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(f"*/{_META}")):
        yield _meta(path.parent)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder by their relative path: keys may contain slashes. Links are left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path


def _texts(folder: Path) -> dict[str, str]:
    return {key: path.read_text(errors="replace") for key, path in _files(folder)}
