"""Where a spool is sent: the verbs a store has to offer, and a server as one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from mainspring.client.batches import Batch
from mainspring.client.records import RunStart
from mainspring.core import AlreadyExists, InvalidInput, NotFound

if TYPE_CHECKING:
    from mainspring.client.http import Connection

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts/"
SPOOL_TAG = "mainspring.spool"
"""On a run that was made from a spool: the id it had there."""


class Sink(Protocol):
    """A store that takes in what was spooled. Every verb may be repeated without doing it twice.

    Verbs raise `Unavailable` when trying again later can help, other errors when it cannot.
    """

    def create_run(self, start: RunStart) -> str:
        """Make the run unless it exists, and return its id there."""
        ...

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Log metrics, params and tags, all or nothing."""
        ...

    def put_file(self, run_id: str, file: Path, path: str) -> None:
        """Store a file among the run's artifacts."""
        ...

    def end_run(self, run_id: str, status: str, end_time: int) -> None:
        """Say how and when the run ended."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class HttpSink:
    """A server that speaks MLflow's protocol: ours, or any other."""

    def __init__(self, url: str, *, token: str = "", timeout_s: float = 30.0) -> None:
        from mainspring.client.http import Connection

        self._connection: Connection = Connection(url, token=token, timeout_s=timeout_s)

    def create_run(self, start: RunStart) -> str:
        """Make the run unless it is there, under its own id or, where the server gives ids, under its spool tag."""
        experiment_id = start.experiment_id or self._experiment_id(start.experiment)
        return self._find_run(start, experiment_id) or self.start_run(start, experiment_id)

    def start_run(self, start: RunStart, experiment_id: str = "") -> str:
        """Make the run without looking for it first."""
        experiment_id = experiment_id or start.experiment_id or self._experiment_id(start.experiment)
        tags = [{"key": key, "value": value} for key, value in {**start.tags, SPOOL_TAG: start.run_id}.items()]
        answer = self._post(
            "runs/create",
            {
                "experiment_id": experiment_id, "run_id": start.run_id, "run_name": start.name, "user_id": start.user,
                "start_time": start.start_time, "tags": tags,
            },
        )  # fmt: skip
        return str(answer["run"]["info"]["run_id"])

    def resume_run(self, run_id: str) -> None:
        """Say that an existing run goes on; raise `NotFound`."""
        self._post("runs/update", {"run_id": run_id, "status": "RUNNING"})

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Send a batch."""
        self._post(
            "runs/log-batch",
            {
                "run_id": run_id,
                "metrics": [
                    {"key": metric.key, "value": metric.value, "timestamp": metric.timestamp, "step": metric.step}
                    for metric in batch.metrics
                ],
                "params": _pairs(batch.params),
                "tags": _pairs(batch.tags),
            },
        )

    def put_file(self, run_id: str, file: Path, path: str) -> None:
        """Upload a file through the server."""
        root = str(self._get("runs/get", {"run_id": run_id})["run"]["info"]["artifact_uri"])
        scheme, _, folder = root.partition(":/")
        if scheme != "mlflow-artifacts":
            raise InvalidInput(f"The artifacts of run {run_id} are at {root}, not behind the server.")
        with file.open("rb") as opened:
            self._connection.put_file(FILES + quote(f"{folder.lstrip('/')}/{path}"), opened, file.stat().st_size)

    def end_run(self, run_id: str, status: str, end_time: int) -> None:
        """Send the end of the run."""
        self._post("runs/update", {"run_id": run_id, "status": status, "end_time": end_time})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _find_run(self, start: RunStart, experiment_id: str) -> str:
        try:
            return str(self._get("runs/get", {"run_id": start.run_id})["run"]["info"]["run_id"])
        except NotFound:
            pass
        query = {"experiment_ids": [experiment_id], "filter": f"tags.`{SPOOL_TAG}` = '{start.run_id}'"}
        runs = self._post("runs/search", {**query, "run_view_type": "ALL", "max_results": 1}).get("runs", [])
        return str(runs[0]["info"]["run_id"]) if runs else ""

    def _experiment_id(self, name: str) -> str:
        if not name:
            return "0"
        try:
            return self._experiment_named(name)
        except NotFound:
            pass
        try:
            return str(self._post("experiments/create", {"name": name})["experiment_id"])
        except AlreadyExists:  # somebody else was faster
            return self._experiment_named(name)

    def _experiment_named(self, name: str) -> str:
        found = self._get("experiments/get-by-name", {"experiment_name": name})
        return str(found["experiment"]["experiment_id"])

    def _get(self, path: str, query: Mapping[str, object]) -> dict[str, Any]:
        return _decode(self._connection.get(API + path, query))

    def _post(self, path: str, document: Mapping[str, object]) -> dict[str, Any]:
        return _decode(self._connection.post(API + path, document))


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _decode(body: bytes) -> dict[str, Any]:
    import json

    try:
        document = json.loads(body)
    except ValueError as error:
        raise InvalidInput(
            f"The server's answer is not JSON: {body[:80]!r}.", hint="Is this an MLflow server?"
        ) from error
    if not isinstance(document, dict):
        raise InvalidInput(f"The server's answer is not an object: {body[:80]!r}.", hint="Is this an MLflow server?")
    return document
