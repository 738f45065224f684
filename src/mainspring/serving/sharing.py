"""What the workers of one endpoint tell each other through its folder: that they are ready, and their metrics."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mainspring.serving.endpoint import Endpoint
from mainspring.serving.metrics import merge_samples, read_samples, render_samples, write_samples

ENDED = "ended.json"
_SECONDS = 0.5


class Sharing:
    """One worker's side; without a supervisor it does nothing."""

    def __init__(self, folder: Path, worker: int, endpoint: Endpoint) -> None:
        self._folder = workers_folder(folder)
        self._endpoint = endpoint
        self._is_on = worker >= 0
        self._path = metrics_path(folder, os.getpid())

    async def publish(self) -> None:
        """Say that this worker is ready, and leave its numbers for its siblings and supervisor, twice a second."""
        while not self._endpoint.is_ready and not self._endpoint.error and self._endpoint.deployment_path.exists():
            await asyncio.sleep(0.01)
        ready_path(self._folder.parent, os.getpid()).touch()
        while True:
            self.write()
            await asyncio.sleep(_SECONDS)

    def write(self) -> None:
        """Leave this worker's numbers now."""
        if self._is_on:
            write_samples(self._path, self._endpoint.metrics.samples())

    def render(self) -> bytes:
        """Write the metrics of all workers, this one's as of now and the others' as of half a second ago."""
        parts = [self._endpoint.metrics.samples()]
        parts += [read_samples(path) for path in sorted(self._folder.glob("*.json")) if path != self._path]
        return render_samples(merge_samples(parts))


def workers_folder(folder: Path) -> Path:
    """Return the folder with the workers' files."""
    return folder / "workers"


def metrics_path(folder: Path, pid: int) -> Path:
    """Return the file with a worker's numbers."""
    return workers_folder(folder) / f"{pid}.json"


def ready_path(folder: Path, pid: int) -> Path:
    """Return the file a worker makes when it is ready."""
    return workers_folder(folder) / f"{pid}.ready"


def fold(folder: Path, pid: int) -> None:
    """Add the numbers of a worker that has ended to those of all that ended before; for the supervisor."""
    path = metrics_path(folder, pid)
    samples = read_samples(path)
    if samples:
        ended = workers_folder(folder) / ENDED
        counts = [sample for sample in samples if sample.kind != "gauge"]
        write_samples(ended, merge_samples([read_samples(ended), counts]))
    path.unlink(missing_ok=True)
    ready_path(folder, pid).unlink(missing_ok=True)
