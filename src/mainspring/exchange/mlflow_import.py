"""Take over an MLflow store: experiments, runs with all their history, models, versions, aliases and artifacts.

Ids stay. It can be repeated and interrupted at any point: what is complete is skipped, a run appears with everything
that belongs to it or not at all. What cannot be taken over is named, counted and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
import sqlalchemy as sa

from mainspring.blobs import put_manifest
from mainspring.core import InvalidInput, MainspringError
from mainspring.db import driver_errors
from mainspring.exchange import writing
from mainspring.exchange.artifacts import (
    ArtifactRoots,
    StoredFile,
    find_roots,
    is_remote,
    place_files,
    store_files,
    store_tree,
)
from mainspring.exchange.mlflow_database import open_mlflow_database
from mainspring.exchange.mlflow_files import open_mlflow_files
from mainspring.exchange.records import (
    BadRow,
    FoundExperiment,
    FoundModel,
    FoundRegistered,
    FoundRun,
    FoundVersion,
    MlflowStore,
    Progress,
)
from mainspring.lineage import Store
from mainspring.registry import read_signature, set_alias, warn_of_code
from mainspring.tracking import ensure_default_experiment

T = TypeVar("T")
_PROMPT_TAG = "mlflow.prompt.is_prompt"


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did: how many of each kind are new, were there already, and could not be taken over."""

    new: dict[str, int]
    present: dict[str, int]
    bad: list[BadRow]
    kept_elsewhere: list[str]
    """Locations in object stores, whose files stay there."""


def open_mlflow_store(uri: str) -> MlflowStore:
    """Open an MLflow store: a database URL, or the path or ``file:`` URI of a folder ``mlruns``."""
    if urlsplit(uri).scheme in ("", "file"):
        return open_mlflow_files(Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri))
    return open_mlflow_database(uri)


def import_mlflow(store: Store, uri: str, *, artifacts: Path | None = None, progress: Progress) -> ImportReport:
    """Import the MLflow store at ``uri``; ``artifacts`` is its server's ``--artifacts-destination``.

    Locations without a scheme are relative to the current folder, as they were for MLflow.
    """
    source = open_mlflow_store(uri)
    try:
        return Importer(store, source, find_roots(uri, artifacts), progress).run()
    finally:
        source.close()


class Importer:
    """One import under way."""

    def __init__(self, store: Store, source: MlflowStore, roots: ArtifactRoots, progress: Progress) -> None:
        self._store = store
        self._source = source
        self._roots = roots
        self._progress = progress
        self._new: Counter[str] = Counter()
        self._present: Counter[str] = Counter()
        self._bad: list[BadRow] = []
        self._elsewhere: set[str] = set()
        self._experiments: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def run(self) -> ImportReport:
        """Import everything, in the order in which one thing refers to another."""
        with self._store.database.write() as connection:
            ensure_default_experiment(connection, self._store.clock)
        experiments = list(self._source.experiments())
        self._check_roots(experiments)
        self._put_all("experiments", experiments, self._put_experiment)
        self._put_all("runs", self._source.runs(), self._put_run, total=self._source.count_runs())
        self._put_all("logged models", self._source.logged_models(), self._put_model)
        self._put_all("registered models", self._source.registered_models(), self._put_registered)
        return ImportReport(
            new=dict(self._new), present=dict(self._present), bad=self._bad, kept_elsewhere=sorted(self._elsewhere)
        )

    def _check_roots(self, experiments: Iterable[FoundExperiment | BadRow]) -> None:
        """Refuse to begin if artifacts lie behind the server and nobody said where: they would stay behind."""
        behind = [found.name for found in experiments if isinstance(found, FoundExperiment) and is_proxied(found)]
        if behind and self._roots.proxied is None:
            raise InvalidInput(
                f"The artifacts of experiment {behind[0]!r} are kept by MLflow's server.",
                hint="Name its --artifacts-destination: --artifacts FOLDER.",
            )

    def _put_all(
        self, kind: str, items: Iterable[T | BadRow], put: Callable[[T], None], *, total: int | None = None
    ) -> None:
        if total is None:
            items = list(items)
            total = len(items)
        for number, item in enumerate(items):
            self._progress(kind, number, total)
            if isinstance(item, BadRow):
                self._bad.append(item)
            else:
                put(item)
        self._progress(kind, total, total)

    def _put_experiment(self, found: FoundExperiment) -> None:
        location = found.artifact_location if is_remote(found.artifact_location) else ""
        try:
            with self._store.database.write() as connection:
                id, is_new = writing.put_experiment(
                    connection, msgspec.structs.replace(found, artifact_location=location)
                )
        except MainspringError as error:
            self._bad.append(BadRow("experiment", found.id, str(error)))
            return
        self._experiments[found.id] = id
        self._count("experiments", is_new)

    def _put_run(self, found: FoundRun) -> None:
        with self._store.database.read() as connection:
            is_present = writing.has_run(connection, found.id)
        self._folders[found.id] = found.artifact_uri
        experiment_id = self._experiment_of("run", found.id, found.experiment_id)
        if is_present or experiment_id is None:
            self._count("runs", False, int(is_present))
            return
        uri, files = self._take_files(found.artifact_uri, f"{experiment_id}/{found.id}/artifacts")
        run = msgspec.structs.replace(found, experiment_id=experiment_id, artifact_uri=uri)
        try:
            with self._store.database.write() as connection:
                bad = list(writing.put_run(connection, run, self._source.metrics(found.id)))
                place_files(connection, self._store.clock, files)
        except refusals() as error:
            self._bad.append(BadRow("run", found.id, _first_line(error)))
            return
        self._bad += bad
        self._count("runs", True)
        self._new["artifacts"] += len(files)

    def _put_model(self, found: FoundModel) -> None:
        self._folders[found.id] = found.artifact_uri
        experiment_id = self._experiment_of("logged model", found.id, found.experiment_id)
        if experiment_id is None:
            return
        uri, files = self._take_files(found.artifact_uri, f"{experiment_id}/models/{found.id}/artifacts")
        model = msgspec.structs.replace(found, experiment_id=experiment_id, artifact_uri=uri)
        try:
            with self._store.database.write() as connection:
                is_new = writing.put_logged_model(connection, self._store.clock, model)
                if is_new:
                    place_files(connection, self._store.clock, files)
        except refusals() as error:
            self._bad.append(BadRow("logged model", found.id, _first_line(error)))
            return
        self._count("logged models", is_new)
        self._new["artifacts"] += len(files) * is_new

    def _put_registered(self, found: FoundRegistered) -> None:
        try:
            with self._store.database.write() as connection:
                id, is_new = writing.put_registered_model(connection, self._store.clock, found)
            self._count("registered models", is_new)
            for version in found.versions:
                self._put_version(id, version)
            for alias, number in found.aliases.items():
                self._put_alias(found.name, alias, number)
        except refusals() as error:
            self._bad.append(BadRow("registered model", found.name, _first_line(error)))

    def _put_version(self, model_id: str, found: FoundVersion) -> None:
        with self._store.database.read() as connection:
            if writing.has_version(connection, model_id, found.version):
                self._count("versions", False)
                return
        digest = self._freeze(found)
        with self._store.database.write() as connection:
            writing.put_version(
                connection, self._store.clock, model_id, found, digest=digest,
                signature=read_signature(self._store.blobs, digest), warning=warn_of_code(self._store.blobs, digest),
                actor=self._store.actor,
            )  # fmt: skip
        self._count("versions", True)

    def _put_alias(self, name: str, alias: str, version: int) -> None:
        with self._store.database.write() as connection:
            event = set_alias(
                connection, self._store.clock, name=name, alias=alias, version=str(version), actor=self._store.actor,
                reason="imported from MLflow",
            )  # fmt: skip
        self._count("aliases", event is not None)

    def _freeze(self, found: FoundVersion) -> str:
        """Store the files of a version as a tree; an empty one if they are not on this machine."""
        folder = self._folder_of_version(found)
        if folder is not None and folder.is_dir():
            digest, bad = store_tree(self._store.blobs, folder)
            self._bad += bad
            return digest
        if found.tags.get(_PROMPT_TAG, "").lower() != "true":
            where = found.storage_location or found.source
            if is_remote(where) and not where.startswith(("models:", "runs:")):
                self._elsewhere.add(where)
            else:
                reason = f"its files are not at {where!r}; kept without them"
                self._bad.append(BadRow("version", f"{found.name}/{found.version}", reason))
        return put_manifest(self._store.blobs, [])

    def _folder_of_version(self, found: FoundVersion) -> Path | None:
        for uri in (found.storage_location, found.source):
            scheme, _, rest = uri.partition(":/")
            if scheme == "models":
                uri = self._folders.get(rest, "")  # noqa: PLW2901 - the model's own location stands for it
            elif scheme == "runs":
                run, _, path = rest.lstrip("/").partition("/")
                uri = f"{self._folders[run]}/{path}" if run in self._folders else ""  # noqa: PLW2901
            folder = self._roots.folder_of(uri) if uri else None
            if folder is not None and folder.is_dir():
                return folder
        return None

    def _take_files(self, uri: str, target: str) -> tuple[str, list[StoredFile]]:
        """Store the files at MLflow's URI; return our URI for them and where they go."""
        if is_remote(uri):
            self._elsewhere.add(uri)
            return uri, []
        folder, ours = self._roots.folder_of(uri), f"mlflow-artifacts:/{target}"
        if folder is None:
            self._bad.append(
                BadRow("artifacts", uri, "not on this machine, or not below a folder named with --artifacts")
            )
            return ours, []
        found = list(store_files(self._store.blobs, folder, target))
        self._bad += [item for item in found if isinstance(item, BadRow)]
        return ours, [item for item in found if isinstance(item, StoredFile)]

    def _experiment_of(self, kind: str, id: str, experiment_id: str) -> str | None:
        found = self._experiments.get(experiment_id)
        if found is None:
            self._bad.append(BadRow(kind, id, f"its experiment {experiment_id} is missing"))
        return found

    def _count(self, kind: str, is_new: bool, number: int = 1) -> None:
        (self._new if is_new else self._present)[kind] += number


def refusals() -> tuple[type[Exception], ...]:
    """Return what our store raises when it does not take something."""
    return (MainspringError, sa.exc.SQLAlchemyError, *driver_errors())


def is_proxied(experiment: FoundExperiment) -> bool:
    """Say whether an experiment's artifacts are behind MLflow's server."""
    return experiment.artifact_location.startswith("mlflow-artifacts:")


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0][:300]
