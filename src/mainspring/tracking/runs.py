"""Runs: what was tried, with which params, to what end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock, Conflict, InvalidInput, NotFound, new_hex_id
from mainspring.db.tables import tracking as tables
from mainspring.tracking import checks
from mainspring.tracking.experiments import get_active_experiment
from mainspring.tracking.inputs import DatasetInput, ModelLink, datasets_of, models_of
from mainspring.tracking.metrics import Metric, latest_metrics, log_metrics
from mainspring.tracking.upserts import upsert

STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
NAME_TAG = "mlflow.runName"
_CHUNK = 500


class Param(msgspec.Struct, frozen=True):
    """A setting of a run; it never changes."""

    key: str
    value: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run with everything logged to it; ``metrics`` are the latest values. Times in ms since the epoch."""

    id: str
    experiment_id: str
    name: str
    user: str
    status: str
    lifecycle_stage: str
    artifact_uri: str
    start_time: int
    end_time: int | None
    params: list[Param]
    metrics: list[Metric]
    tags: dict[str, str]
    datasets: list[DatasetInput]
    models: list[ModelLink]


class RunKey(msgspec.Struct, frozen=True):
    """What writing to a run needs: its number and its experiment."""

    number: int
    experiment_id: str


def create_run(
    connection: sa.Connection,
    clock: Clock,
    experiment_id: str,
    *,
    name: str = "",
    user: str = "",
    start_time: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """Start a run; its name is also its tag ``mlflow.runName``."""
    experiment = get_active_experiment(connection, experiment_id)
    id = new_hex_id()
    tags = dict(tags or {})
    name = name or tags.get(NAME_TAG, "") or f"run-{id[:8]}"
    tags[NAME_TAG] = checks.check_length("Run name", name, checks.MAX_KEY)
    inserted = connection.execute(
        sa.insert(tables.run).values(
            id=id, experiment_id=int(experiment.id), name=name, user=checks.check_length("User", user, 256),
            status="RUNNING", lifecycle_stage="active", artifact_uri=f"{experiment.artifact_location}/{id}/artifacts",
            start_time=clock.now_ms() if start_time is None else start_time,
        )
    )  # fmt: skip
    number = int(next(iter(inserted.inserted_primary_key or ())))
    _write_tags(connection, number, tags)
    return get_run(connection, id)


def find_run(connection: sa.Connection, id: str, *, stage: str | None = "active") -> RunKey:
    """Return the key of a run; raise `NotFound`, or `Conflict` if it is not in that stage."""
    table = tables.run
    query = sa.select(table.c.number, table.c.experiment_id, table.c.lifecycle_stage).where(table.c.id == id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"Run with id={id[:100]} not found")
    if stage is not None and row.lifecycle_stage != stage:
        raise Conflict(f"The run {id} must be in the '{stage}' state. Current state is {row.lifecycle_stage}.")
    return RunKey(row.number, str(row.experiment_id))


def get_run(connection: sa.Connection, id: str) -> Run:
    """Return one run, deleted ones too; raise `NotFound`."""
    runs = load_runs(connection, [find_run(connection, id, stage=None).number])
    return runs[0]


def load_runs(connection: sa.Connection, numbers: Sequence[int]) -> list[Run]:
    """Return runs by number, in this order, with what was logged to them."""
    found: list[Run] = []
    for start in range(0, len(numbers), _CHUNK):
        found += _load_chunk(connection, numbers[start : start + _CHUNK])
    return found


def update_run(
    connection: sa.Connection, id: str, *, status: str | None = None, end_time: int | None = None, name: str = ""
) -> Run:
    """Change the status, the end time or the name of a run."""
    key = find_run(connection, id)
    if status is not None and status not in STATUSES:
        raise InvalidInput(f"Invalid run status {status[:50]!r}.", hint=f"Use one of {', '.join(STATUSES)}.")
    given = {"status": status, "end_time": end_time, "name": name or None}
    values = {column: value for column, value in given.items() if value is not None}
    if name:
        checks.check_length("Run name", name, checks.MAX_KEY)
        _write_tags(connection, key.number, {NAME_TAG: name})
    if values:
        connection.execute(sa.update(tables.run).where(tables.run.c.number == key.number).values(values))
    return get_run(connection, id)


def delete_run(connection: sa.Connection, id: str) -> None:
    """Mark a run as deleted."""
    _set_stage(connection, find_run(connection, id, stage="active"), "deleted")


def restore_run(connection: sa.Connection, id: str) -> None:
    """Take back the deletion of a run."""
    _set_stage(connection, find_run(connection, id, stage="deleted"), "active")


def log_batch(
    connection: sa.Connection,
    id: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Sequence[Param] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log metrics, params and tags to a run, all or nothing."""
    key = find_run(connection, id)
    log_params(connection, key, id, params)
    log_metrics(connection, key.number, metrics)
    if tags:
        _set_tags(connection, key, tags)


def log_params(connection: sa.Connection, key: RunKey, id: str, params: Sequence[Param]) -> None:
    """Record params; the same value again is fine, another one raises `InvalidInput`."""
    if not params:
        return
    wanted: dict[str, str] = {}
    for param in params:
        checks.check_key("param", param.key)
        checks.check_length("Param value", param.value, checks.MAX_PARAM_VALUE)
        if wanted.setdefault(param.key, param.value) != param.value:
            raise InvalidInput(
                f"Duplicate parameter keys have been submitted: ['{param.key}'].",
                hint="Please ensure the request contains only one param value per param key.",
            )
    rows = [{"run": key.number, "key": name, "value": value} for name, value in sorted(wanted.items())]
    upsert(connection, tables.param, rows, keys=("run", "key"), update=())
    table = tables.param
    where = (table.c.run == key.number, table.c.key.in_(wanted))
    for name, value in connection.execute(sa.select(table.c.key, table.c.value).where(*where)):
        if value != wanted[name]:
            raise InvalidInput(
                f"Changing param values is not allowed. Param with key='{name}' was already logged with "
                f"value='{value}' for run ID='{id}'. Attempted logging new value '{wanted[name]}'."
            )


def set_tags(connection: sa.Connection, id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run; ``mlflow.runName`` renames it."""
    _set_tags(connection, find_run(connection, id), tags)


def delete_tag(connection: sa.Connection, id: str, key: str) -> None:
    """Remove a tag of a run; raise `NotFound` if it has none of that name."""
    table = tables.run_tag
    where = (table.c.run == find_run(connection, id).number, table.c.key == key)
    if connection.execute(sa.delete(table).where(*where)).rowcount == 0:
        raise NotFound(f"No tag with name: {key[:100]} in run with id {id}")


def _set_tags(connection: sa.Connection, key: RunKey, tags: Mapping[str, str]) -> None:
    _write_tags(connection, key.number, tags)
    if tags.get(NAME_TAG):
        where = tables.run.c.number == key.number
        name = checks.check_length("Run name", tags[NAME_TAG], checks.MAX_KEY)
        connection.execute(sa.update(tables.run).where(where).values(name=name))


def _write_tags(connection: sa.Connection, number: int, tags: Mapping[str, str]) -> None:
    checks.check_tags(tags, limit=checks.MAX_RUN_TAG_VALUE)
    rows = [{"run": number, "key": key, "value": value} for key, value in sorted(tags.items())]
    upsert(connection, tables.run_tag, rows, keys=("run", "key"), update=("value",))


def _set_stage(connection: sa.Connection, key: RunKey, stage: str) -> None:
    connection.execute(sa.update(tables.run).where(tables.run.c.number == key.number).values(lifecycle_stage=stage))


def _load_chunk(connection: sa.Connection, numbers: Sequence[int]) -> list[Run]:
    table = tables.run
    rows = {row["number"]: row for row in connection.execute(_in(table, table.c.number, numbers)).mappings()}
    params: dict[int, list[Param]] = {number: [] for number in numbers}
    for row in connection.execute(_in(tables.param, tables.param.c.run, numbers).order_by(tables.param.c.key)):
        params[row.run].append(Param(row.key, row.value))
    tags: dict[int, dict[str, str]] = {number: {} for number in numbers}
    for row in connection.execute(_in(tables.run_tag, tables.run_tag.c.run, numbers).order_by(tables.run_tag.c.key)):
        tags[row.run][row.key] = row.value
    metrics = latest_metrics(connection, numbers)
    datasets, models = datasets_of(connection, numbers), models_of(connection, numbers)
    found = []
    for number in numbers:
        info = {**rows[number], "experiment_id": str(rows[number]["experiment_id"])}
        del info["number"]
        run = Run(
            **info, params=params[number], metrics=metrics[number], tags=tags[number],
            datasets=datasets[number], models=models[number],
        )  # fmt: skip
        found.append(run)
    return found


def _in(table: sa.Table, column: sa.Column[int], numbers: Sequence[int]) -> sa.Select[tuple[object, ...]]:
    return sa.select(table).where(column.in_(numbers))
