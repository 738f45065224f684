"""Write what comes from elsewhere into our store, with the ids it had there.

This room is the one that makes rows of the tracking and registry tables with ids it was given: everything else about
them (params, metrics, tags, datasets, aliases) goes through the rooms' own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from mainspring.core import Clock, MainspringError, new_id
from mainspring.db.tables import registry as registry_tables
from mainspring.db.tables import tracking as tables
from mainspring.exchange.records import BadRow, FoundExperiment, FoundModel, FoundRegistered, FoundRun, FoundVersion
from mainspring.exchange.tables import reset_sequence
from mainspring.lineage import put_artifact, record_event
from mainspring.tracking import (
    STATUSES,
    Metric,
    Param,
    check_key,
    log_batch,
    log_datasets,
    log_metrics,
    log_model_metrics,
    log_model_params,
    log_models,
    set_experiment_tags,
    set_model_tags,
    upsert,
)

METRIC_CHUNK = 5000
T = TypeVar("T")


def put_experiment(connection: sa.Connection, found: FoundExperiment) -> tuple[str, bool]:
    """Make an experiment unless one of its name is there; return its id (the given one if free) and if it is new."""
    table = tables.experiment
    there = connection.execute(sa.select(table.c.id).where(table.c.name == found.name)).scalar()
    if there is not None:
        return str(there), False
    wanted = int(found.id) if found.id.isdigit() else None
    if wanted is not None and connection.execute(sa.select(table.c.id).where(table.c.id == wanted)).first():
        wanted = None
    values: dict[str, Any] = {
        "name": found.name, "artifact_location": found.artifact_location, "lifecycle_stage": "active",
        "created_at": found.created_at, "updated_at": found.updated_at,
    }  # fmt: skip
    if wanted is not None:
        values["id"] = wanted
    id = int(next(iter(connection.execute(sa.insert(table).values(values)).inserted_primary_key or ())))
    reset_sequence(connection, table)
    location = found.artifact_location or f"mlflow-artifacts:/{id}"
    changes = {"artifact_location": location, "lifecycle_stage": found.lifecycle_stage}
    set_experiment_tags(connection, str(id), found.tags)
    connection.execute(sa.update(table).where(table.c.id == id).values(changes))
    return str(id), True


def put_run(connection: sa.Connection, found: FoundRun, metrics: Iterable[Metric | BadRow]) -> Iterator[BadRow]:
    """Make a run under its own id and log everything to it; yield what its new store refuses."""
    number = insert_run(connection, found)
    params = [Param(key, value) for key, value in found.params.items()]
    yield from _each("param", found.id, params, lambda some: log_batch(connection, found.id, params=some))
    tags = list(found.tags.items())
    yield from _each("tag", found.id, tags, lambda some: log_batch(connection, found.id, tags=dict(some)))
    yield from _put_metrics(connection, found.id, number, metrics)
    experiment_id = found.experiment_id
    yield from _each(
        "dataset", found.id, found.datasets, lambda some: log_datasets(connection, number, experiment_id, some)
    )
    log_models(connection, number, found.models)
    changes = {"lifecycle_stage": found.lifecycle_stage, "name": found.name[:250]}
    connection.execute(sa.update(tables.run).where(tables.run.c.number == number).values(changes))


def insert_run(connection: sa.Connection, found: FoundRun) -> int:
    """Insert the row of an active run and return its number."""
    status = found.status if found.status in STATUSES else "FINISHED"
    inserted = connection.execute(
        sa.insert(tables.run).values(
            id=found.id, experiment_id=int(found.experiment_id), name=found.name[:250], user=found.user[:256],
            status=status, lifecycle_stage="active", artifact_uri=found.artifact_uri, start_time=found.start_time,
            end_time=found.end_time,
        )
    )  # fmt: skip
    return int(next(iter(inserted.inserted_primary_key or ())))


def has_run(connection: sa.Connection, id: str) -> bool:
    """Say whether the store has a run of this id."""
    return connection.execute(sa.select(tables.run.c.id).where(tables.run.c.id == id)).first() is not None


def put_logged_model(connection: sa.Connection, clock: Clock, found: FoundModel) -> bool:
    """Make a logged model under its own id unless it is there; say whether it is new."""
    table = tables.logged_model
    if connection.execute(sa.select(table.c.id).where(table.c.id == found.id)).first():
        return False
    values = {
        "experiment_id": int(found.experiment_id), "name": found.name, "model_type": found.model_type,
        "source_run_id": found.source_run_id, "artifact_uri": found.artifact_uri, "status": found.status,
        "created_at": found.created_at,
    }  # fmt: skip
    connection.execute(
        sa.insert(table).values(id=found.id, lifecycle_stage="active", updated_at=found.updated_at, **values)
    )
    log_model_params(connection, found.id, [Param(key, value) for key, value in found.params.items()])
    set_model_tags(connection, clock, found.id, found.tags)
    for measured in found.metrics:
        log_model_metrics(connection, measured.run_id, [measured.metric])
    changes = {"lifecycle_stage": found.lifecycle_stage, "updated_at": found.updated_at}
    connection.execute(sa.update(table).where(table.c.id == found.id).values(changes))
    return True


def put_registered_model(connection: sa.Connection, clock: Clock, found: FoundRegistered) -> tuple[str, bool]:
    """Make a registered model unless one of its name is there; return our id of it and whether it is new."""
    table = registry_tables.registered_model
    there = connection.execute(sa.select(table.c.id).where(table.c.name == found.name)).scalar()
    if there is not None:
        return str(there), False
    id = new_id(clock)
    connection.execute(
        sa.insert(table).values(
            id=id, name=found.name, description=found.description, created_at=found.created_at,
            updated_at=found.updated_at, last_version=0,
        )
    )  # fmt: skip
    rows = [{"model_id": id, "key": key, "value": value} for key, value in found.tags.items()]
    upsert(connection, registry_tables.registered_model_tag, rows, keys=("model_id", "key"), update=("value",))
    return id, True


def has_version(connection: sa.Connection, model_id: str, version: int) -> bool:
    """Say whether a registered model has this version."""
    table = registry_tables.model_version
    where = (table.c.model_id == model_id, table.c.version == version)
    return connection.execute(sa.select(table.c.version).where(*where)).first() is not None


def put_version(
    connection: sa.Connection,
    clock: Clock,
    model_id: str,
    found: FoundVersion,
    *,
    digest: str,
    signature: Mapping[str, Any],
    warning: str,
    actor: str,
) -> None:
    """Make a version under its own number, with its artifact in the lineage and an event."""
    about = {"version": str(found.version), "run_id": found.run_id, "digest": digest}
    uri = f"models:/{found.name}/{found.version}"
    put_artifact(connection, clock, type="Model", name=found.name, uri=uri, digest=digest, properties=dict(about))
    event = record_event(
        connection, clock, "model.version.imported", source="exchange", subject=f"{found.name}/{found.version}",
        data={**about, "name": found.name, "source": found.source, "actor": actor},
    )  # fmt: skip
    values = {
        "source": found.source, "run_id": found.run_id[:32], "logged_model_id": found.logged_model_id[:34],
        "run_link": found.run_link, "description": found.description, "user": found.user[:256],
        "signature": dict(signature), "stage": found.stage[:16], "warning": warning, "created_at": found.created_at,
        "updated_at": found.updated_at, "pipeline_run_id": found.tags.get("mainspring.pipeline_run_id", "")[:64],
        "execution_id": "", "event": event,
    }  # fmt: skip
    table = registry_tables.model_version
    connection.execute(sa.insert(table).values(model_id=model_id, version=found.version, digest=digest, **values))
    rows = [
        {"model_id": model_id, "version": found.version, "key": key, "value": value}
        for key, value in found.tags.items()
    ]
    keys = ("model_id", "version", "key")
    upsert(connection, registry_tables.model_version_tag, rows, keys=keys, update=("value",))
    model = registry_tables.registered_model
    newest = sa.and_(model.c.id == model_id, model.c.last_version < found.version)
    connection.execute(sa.update(model).where(newest).values(last_version=found.version))


def _put_metrics(
    connection: sa.Connection, run_id: str, number: int, metrics: Iterable[Metric | BadRow]
) -> Iterator[BadRow]:
    checked: dict[str, str] = {}
    stream = iter(metrics)
    while chunk := list(islice(stream, METRIC_CHUNK)):
        good: list[Metric] = []
        for metric in chunk:
            if isinstance(metric, BadRow):
                yield metric
                continue
            problem = checked.get(metric.key)
            if problem is None:
                problem = checked[metric.key] = _problem_of_key(metric.key)
            if problem:
                yield BadRow("metric", f"{run_id}/{metric.key}", problem)
            else:
                good.append(metric)
        log_metrics(connection, number, good)


def _problem_of_key(key: str) -> str:
    try:
        check_key("metric", key)
    except MainspringError as error:
        return str(error)
    return ""


def _each(kind: str, owner: str, items: Sequence[T], log: Callable[[Sequence[T]], None]) -> Iterator[BadRow]:
    """Log all items at once, or one by one if the store refuses, and yield those it does not take."""
    if not items:
        return
    try:
        log(items)
    except MainspringError:
        for item in items:
            try:
                log([item])
            except MainspringError as error:
                yield BadRow(kind, f"{owner}/{getattr(item, 'key', item)}"[:300], str(error))
