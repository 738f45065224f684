"""Read from a server what was logged and registered. For writing see `start_run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mainspring.client.answers import One, Page
from mainspring.client.entities import Experiment, ModelVersion, Point, RegisteredModel, Run
from mainspring.client.http import Connection
from mainspring.client.sinks import API
from mainspring.core import InvalidInput, NotFound

if TYPE_CHECKING:
    import polars

T = TypeVar("T")
_PAGE = 1000


class Client:
    """A server, for reading. Every method raises a `MainspringError` that says what to do; not for several threads."""

    def __init__(self, url: str, *, token: str = "", timeout_s: float = 60.0) -> None:
        self._connection = Connection(url, token=token, timeout_s=timeout_s)

    def experiments(self, filter: str = "") -> list[Experiment]:
        """Return the active experiments that match MLflow's filter, newest first."""
        query = {"filter": filter, "max_results": _PAGE}
        return [found.read() for found in self._search("experiments/search", query, lambda page: page.experiments)]

    def experiment(self, name: str) -> Experiment:
        """Return the experiment of that name; raise `NotFound`."""
        found = self._one("experiments/get-by-name", {"experiment_name": name}).experiment
        return _present(found, f"There is no experiment {name!r}.").read()

    def runs(
        self, experiment: str | Sequence[str] = (), *, filter: str = "", order_by: Sequence[str] = (), limit: int = 1000
    ) -> list[Run]:
        """Return the runs of experiments (by name; of all if none is named) that match, newest first."""
        names = [experiment] if isinstance(experiment, str) else experiment
        ids = [self.experiment(name).id for name in names] if names else [found.id for found in self.experiments()]
        query = {
            "experiment_ids": ids, "filter": filter, "order_by": list(order_by), "max_results": min(limit, _PAGE)
        }  # fmt: skip
        found: list[Run] = []
        for run in self._search("runs/search", query, lambda page: page.runs):
            if len(found) == limit:
                break
            found.append(run.read())
        return found

    def runs_frame(
        self, experiment: str | Sequence[str] = (), *, filter: str = "", limit: int = 1000
    ) -> polars.DataFrame:
        """Return runs as a table: a row each; columns ``params.X`` and ``metrics.X`` beside its attributes."""
        import polars as pl

        rows = [flatten_run(run) for run in self.runs(experiment, filter=filter, limit=limit)]
        return pl.from_dicts(rows, infer_schema_length=None) if rows else pl.DataFrame()

    def run(self, id: str) -> Run:
        """Return one run; raise `NotFound`."""
        return _present(self._one("runs/get", {"run_id": id}).run, f"There is no run {id}.").read()

    def metric_history(self, run_id: str, key: str) -> list[Point]:
        """Return every value of a metric, in the order of time."""
        query: dict[str, object] = {"run_id": run_id, "metric_key": key, "max_results": 25_000}
        found: list[Point] = []
        while True:
            page = _decode(self._connection.get(API + "metrics/get-history", query), Page)
            found += [metric.read() for metric in page.metrics]
            if not page.next_page_token:
                return found
            query["page_token"] = page.next_page_token

    def models(self, filter: str = "") -> list[RegisteredModel]:
        """Return the registered models that match, by name."""
        query = {"filter": filter, "max_results": _PAGE}
        return [found.read() for found in self._pages("registered-models/search", query, lambda p: p.registered_models)]

    def model(self, name: str) -> RegisteredModel:
        """Return one registered model; raise `NotFound`."""
        found = self._one("registered-models/get", {"name": name}).registered_model
        return _present(found, f"There is no registered model {name!r}.").read()

    def versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a registered model, newest first."""
        quoted = name.replace("'", "''")
        query = {"filter": f"name = '{quoted}'", "order_by": ["version_number DESC"], "max_results": _PAGE}
        return [found.read() for found in self._pages("model-versions/search", query, lambda page: page.model_versions)]

    def version(self, name: str, version: str) -> ModelVersion:
        """Return one version, by its number or ``@alias``; raise `NotFound`."""
        if version.startswith("@"):
            answer = self._one("registered-models/alias", {"name": name, "alias": version[1:]})
        else:
            answer = self._one("model-versions/get", {"name": name, "version": version})
        return _present(answer.model_version, f"There is no version {version} of {name}.").read()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def _one(self, path: str, query: Mapping[str, object]) -> One:
        return _decode(self._connection.get(API + path, query), One)

    def _search(self, path: str, query: dict[str, object], items: Callable[[Page], list[T]]) -> Iterator[T]:
        """Yield from the pages of a POST search."""
        while True:
            page = _decode(self._connection.post(API + path, query), Page)
            yield from items(page)
            if not page.next_page_token:
                return
            query = {**query, "page_token": page.next_page_token}

    def _pages(self, path: str, query: dict[str, object], items: Callable[[Page], list[T]]) -> Iterator[T]:
        """Yield from the pages of a GET search."""
        while True:
            page = _decode(self._connection.get(API + path, query), Page)
            yield from items(page)
            if not page.next_page_token:
                return
            query = {**query, "page_token": page.next_page_token}


def flatten_run(run: Run) -> dict[str, object]:
    """Return a run as one row of a table."""
    names = ("id", "experiment_id", "name", "user", "status", "start_time", "end_time")
    row: dict[str, object] = {name: getattr(run, name) for name in names}
    row.update({f"params.{key}": value for key, value in run.params.items()})
    row.update({f"metrics.{key}": value for key, value in run.metrics.items()})
    return row


def _decode(body: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"The server's answer cannot be read: {error}.", hint="Is this an MLflow server?") from error


def _present(found: T | None, message: str) -> T:
    if found is None:
        raise NotFound(message)
    return found
