"""Take what clients spooled without a server straight into the store: whoever opens it calls `absorb_spools`."""

from __future__ import annotations

import math
from pathlib import Path

from mainspring.client import SPOOL_FOLDER, Batch, RunStart, Shipped, find_spools, ship_spools
from mainspring.core import NotFound
from mainspring.exchange.writing import has_run
from mainspring.lineage import Store
from mainspring.tracking import (
    DEFAULT_ID,
    Metric,
    Param,
    create_experiment,
    create_run,
    ensure_default_experiment,
    get_experiment_by_name,
    get_run,
    log_batch,
    path_of_uri,
    put_file,
    update_run,
)


def absorb_spools(store: Store) -> Shipped:
    """Take in the spools that ended programs left in the project's home folder."""
    folder = store.settings.home / SPOOL_FOLDER
    if next(find_spools(folder), None) is None:
        return Shipped()
    return ship_spools(folder, StoreSink(store), url="")


class StoreSink:
    """The store as a place spools are sent to; runs keep the ids they were given."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create_run(self, start: RunStart) -> str:
        """Make the run unless it exists."""
        with self._store.database.write() as connection:
            if has_run(connection, start.run_id):
                return start.run_id
            ensure_default_experiment(connection, self._store.clock)
            id = start.experiment_id or DEFAULT_ID
            if start.experiment:
                try:
                    id = get_experiment_by_name(connection, start.experiment).id
                except NotFound:
                    id = create_experiment(connection, self._store.clock, start.experiment)
            create_run(
                connection, self._store.clock, id, id=start.run_id, name=start.name, user=start.user,
                start_time=start.start_time, tags=start.tags,
            )  # fmt: skip
        return start.run_id

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Log metrics, params and tags, all or nothing."""
        metrics = [
            Metric(key=metric.key, value=_number(metric.value), timestamp=metric.timestamp, step=metric.step)
            for metric in batch.metrics
        ]
        params = [Param(key, value) for key, value in batch.params.items()]
        with self._store.database.write() as connection:
            log_batch(connection, run_id, metrics=metrics, params=params, tags=batch.tags)

    def put_file(self, run_id: str, file: Path, path: str) -> None:
        """Store a file among the run's artifacts."""
        digest, size = self._store.blobs.put_file(file), file.stat().st_size
        with self._store.database.write() as connection:
            root = path_of_uri(get_run(connection, run_id).artifact_uri)
            put_file(connection, self._store.clock, f"{root}/{path}", digest=digest, size=size)

    def end_run(self, run_id: str, status: str, end_time: int) -> None:
        """Say how and when the run ended."""
        with self._store.database.write() as connection:
            update_run(connection, run_id, status=status, end_time=end_time)

    def close(self) -> None:
        """Do nothing: the store belongs to its opener."""


def _number(value: float | str) -> float:
    return math.nan if value == "NaN" else float(value)
