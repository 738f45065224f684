"""New data: files that have arrived in a dataset's folder become parts of its next snapshot."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from mainspring.blobs import digest_of_file
from mainspring.core import InvalidInput
from mainspring.core.project import DatasetConfig
from mainspring.datasets import Snapshot, append_snapshot, latest_snapshot
from mainspring.lineage import Store, add_edge, end_execution, find_artifacts, put_artifact, start_execution


def take_arrivals(store: Store) -> list[Snapshot]:
    """Snapshot every file that has arrived and was not taken yet, in name order; return the new snapshots.

    One process at a time. A file that cannot be read does not hold up the others; it is raised in the end.
    """
    taken: list[Snapshot] = []
    broken: list[InvalidInput] = []
    with _one_at_a_time(store):
        for name, config in store.project.datasets.items():
            for path in new_files(store, name, config):
                try:
                    taken.append(take_file(store, name, config, path))
                except InvalidInput as error:
                    broken.append(error)
    if broken:
        raise broken[0]
    return taken


@contextmanager
def _one_at_a_time(store: Store) -> Iterator[None]:
    with (store.settings.home / "arrivals.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def new_files(store: Store, dataset: str, config: DatasetConfig) -> list[Path]:
    """Return the files that match the dataset's pattern and are not in any of its snapshots yet."""
    found = sorted(path for path in store.folder.glob(config.files) if path.is_file())
    if not found:
        return []
    with store.database.read() as connection:
        taken = {artifact.name for artifact in find_artifacts(connection, type="File")}
    return [path for path in found if _name(dataset, store.folder, path) not in taken]


def take_file(store: Store, dataset: str, config: DatasetConfig, path: Path) -> Snapshot:
    """Append one Parquet file to the dataset: a new snapshot whose lineage names the file and its digest."""
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInput(
            f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", hint="Replace it with a whole file."
        ) from error
    with store.database.read() as connection:
        parent = latest_snapshot(connection, dataset)
    snapshot = append_snapshot(
        store.database, store.blobs, store.clock, dataset, frame, time_column=config.time_column or None, parent=parent
    )
    _record(store, dataset, path, snapshot)
    return snapshot


def _record(store: Store, dataset: str, path: Path, snapshot: Snapshot) -> None:
    with store.database.write() as connection:
        execution = start_execution(connection, store.clock, type="ingest", name=dataset, actor=store.actor)
        file = put_artifact(
            connection,
            store.clock,
            type="File",
            name=_name(dataset, store.folder, path),
            uri=path.as_uri(),
            digest=digest_of_file(path),
        )
        add_edge(connection, execution, file, "INPUT", "file")
        add_edge(connection, execution, snapshot.artifact_id, "OUTPUT", "snapshot")
        end_execution(connection, store.clock, execution, "COMPLETE")


def _name(dataset: str, folder: Path, path: Path) -> str:
    return f"{dataset}/{path.relative_to(folder).as_posix()}"
