"""Experiments: groups of runs, with a place for their artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import sqlalchemy as sa

from mainspring.core import AlreadyExists, Clock, Conflict, InvalidInput, NotFound
from mainspring.db.tables import tracking as tables
from mainspring.tracking import checks
from mainspring.tracking.filters import Comparison, compare, compare_tag, order_clause, parse_filter
from mainspring.tracking.locations import check_location, root_location
from mainspring.tracking.paging import check_max_results, next_token, read_offset
from mainspring.tracking.upserts import upsert

MAX_SEARCHED = 30_000
"""How many experiments may be searched at once: databases bind about 32,000 values."""
STAGES = {"ACTIVE_ONLY": ("active",), "DELETED_ONLY": ("deleted",), "ALL": ("active", "deleted")}
_NUMBERS = {"creation_time": tables.experiment.c.created_at, "last_update_time": tables.experiment.c.updated_at}
_COLUMNS = {**_NUMBERS, "name": tables.experiment.c.name, "experiment_id": sa.cast(tables.experiment.c.id, sa.String)}


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A group of runs. Times are milliseconds since the epoch."""

    id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    created_at: int
    updated_at: int
    tags: dict[str, str]


class ExperimentPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search."""

    experiments: list[Experiment]
    next_page_token: str | None


def create_experiment(
    connection: sa.Connection,
    clock: Clock,
    name: str,
    *,
    artifact_location: str = "",
    artifact_root: str = "",
    tags: Mapping[str, str] | None = None,
) -> str:
    """Make an experiment and return its id; raise `AlreadyExists` if the name is taken, also by a deleted one.

    Without an ``artifact_location`` its artifacts are below ``artifact_root`` (empty: behind the server).
    """
    checks.check_length("name", name, checks.MAX_EXPERIMENT_NAME)
    if not name.strip():
        raise InvalidInput("Invalid experiment name: ''.", hint="Give the experiment a name.")
    root = root_location(artifact_root)
    if artifact_location:
        artifact_location = check_location(artifact_location, root=root)
    _check_free(connection, name)
    now = clock.now_ms()
    inserted = connection.execute(
        sa.insert(tables.experiment).values(
            name=name, artifact_location=artifact_location, lifecycle_stage="active",
            created_at=now, updated_at=now,
        )
    )  # fmt: skip
    number = int(next(iter(inserted.inserted_primary_key or ())))
    if not artifact_location:
        where = tables.experiment.c.id == number
        location = f"{root}{number}"
        connection.execute(sa.update(tables.experiment).where(where).values(artifact_location=location))
    set_experiment_tags(connection, str(number), tags or {})
    return str(number)


def get_experiment(connection: sa.Connection, id: str) -> Experiment:
    """Return one experiment, deleted ones too; raise `NotFound`."""
    found = _load(connection, sa.select(tables.experiment).where(tables.experiment.c.id == _number(id)))
    if not found:
        raise NotFound(f"No Experiment with id={id} exists")
    return found[0]


def get_experiment_by_name(connection: sa.Connection, name: str) -> Experiment:
    """Return the experiment of that name, deleted ones too; raise `NotFound`."""
    found = _load(connection, sa.select(tables.experiment).where(tables.experiment.c.name == name))
    if not found:
        raise NotFound(f"Could not find experiment with name '{name[:500]}'")
    return found[0]


def get_active_experiment(connection: sa.Connection, id: str) -> Experiment:
    """Return an experiment that may be written to."""
    found = get_experiment(connection, id)
    if found.lifecycle_stage != "active":
        raise InvalidInput(f"The experiment {id} must be in the 'active' state. Current state is deleted.")
    return found


def search_experiments(
    connection: sa.Connection,
    *,
    filter: str = "",
    order_by: tuple[str, ...] = (),
    view: str = "ACTIVE_ONLY",
    max_results: int = 1000,
    page_token: str | None = None,
) -> ExperimentPage:
    """Return the experiments that match, newest first unless ordered otherwise."""
    limit, offset = check_max_results(max_results, 50_000), read_offset(page_token)
    table = tables.experiment
    query = sa.select(table).where(table.c.lifecycle_stage.in_(STAGES[view])).limit(limit + 1).offset(offset)
    for comparison in parse_filter(filter):
        query = query.where(_condition(connection, comparison))
    orders = [order_clause(clause, _COLUMNS) for clause in order_by] or [table.c.created_at.desc()]
    found = _load(connection, query.order_by(*orders, table.c.id.desc()))
    token = next_token(offset, limit, len(found))
    return ExperimentPage(experiments=found[:limit], next_page_token=token)


def rename_experiment(connection: sa.Connection, clock: Clock, id: str, name: str) -> None:
    """Give an experiment another name."""
    checks.check_length("name", name, checks.MAX_EXPERIMENT_NAME)
    found = get_experiment(connection, id)
    if found.lifecycle_stage != "active":
        raise Conflict("Cannot rename a non-active experiment.", hint="Restore it first.")
    if name != found.name:
        _check_free(connection, name)
    _update(connection, clock, id, name=name)


def delete_experiment(connection: sa.Connection, clock: Clock, id: str) -> None:
    """Mark an experiment and its runs as deleted."""
    _get_in_stage(connection, id, "active")
    _update(connection, clock, id, lifecycle_stage="deleted")
    _set_stage_of_runs(connection, id, "deleted")


def restore_experiment(connection: sa.Connection, clock: Clock, id: str) -> None:
    """Take back the deletion of an experiment and its runs."""
    _get_in_stage(connection, id, "deleted")
    _update(connection, clock, id, lifecycle_stage="active")
    _set_stage_of_runs(connection, id, "active")


def set_experiment_tags(connection: sa.Connection, id: str, tags: Mapping[str, str]) -> None:
    """Set tags of an experiment."""
    checks.check_tags(tags, limit=checks.MAX_EXPERIMENT_TAG_VALUE)
    get_active_experiment(connection, id)
    rows = [{"experiment_id": int(id), "key": key, "value": value} for key, value in tags.items()]
    upsert(connection, tables.experiment_tag, rows, keys=("experiment_id", "key"), update=("value",))


def delete_experiment_tag(connection: sa.Connection, id: str, key: str) -> None:
    """Remove a tag of an experiment; raise `NotFound` if it has none of that name."""
    get_active_experiment(connection, id)
    table = tables.experiment_tag
    if connection.execute(sa.delete(table).where(table.c.experiment_id == int(id), table.c.key == key)).rowcount == 0:
        raise NotFound(f"No tag with name: {key[:100]} in experiment with id {id}")


def _load(connection: sa.Connection, query: sa.Select[tuple[object, ...]]) -> list[Experiment]:
    rows = connection.execute(query).mappings().all()
    table = tables.experiment_tag
    tags: dict[int, dict[str, str]] = {row["id"]: {} for row in rows}
    for id, key, value in connection.execute(sa.select(table).where(table.c.experiment_id.in_(tags))):
        tags[id][key] = value
    return [Experiment(**{**row, "id": str(row["id"]), "tags": tags[row["id"]]}) for row in rows]


def _condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    if comparison.kind == "tag":
        table = tables.experiment_tag
        return compare_tag(connection, comparison, table.c, table.c.experiment_id == tables.experiment.c.id)
    if comparison.kind != "attribute" or comparison.key not in _COLUMNS:
        raise InvalidInput(
            f"Invalid attribute key '{comparison.key}' specified.", hint="Valid keys are " + ", ".join(_COLUMNS)
        )
    return compare(connection, _COLUMNS[comparison.key], comparison, numeric=comparison.key in _NUMBERS)


def _update(connection: sa.Connection, clock: Clock, id: str, **values: str) -> None:
    where = tables.experiment.c.id == int(id)
    connection.execute(sa.update(tables.experiment).where(where).values(updated_at=clock.now_ms(), **values))


def _set_stage_of_runs(connection: sa.Connection, id: str, stage: str) -> None:
    where = tables.run.c.experiment_id == int(id)
    connection.execute(sa.update(tables.run).where(where).values(lifecycle_stage=stage))


def _get_in_stage(connection: sa.Connection, id: str, stage: str) -> Experiment:
    """Return an experiment in this stage; one in the other stage is as good as not there, as in MLflow."""
    found = get_experiment(connection, id)
    if found.lifecycle_stage != stage:
        raise NotFound(f"No Experiment with id={id} exists")
    return found


def experiment_numbers(ids: Iterable[str]) -> list[int]:
    """Return the numbers of experiments by their ids, each once; those that cannot be there are left out."""
    found = {_check_id(id) for id in ids}
    if len(found) > MAX_SEARCHED:
        raise InvalidInput(f"{len(found)} experiment IDs are given.", hint=f"Search at most {MAX_SEARCHED} at once.")
    return sorted(int(id) for id in found if id.isdigit() and len(id) < 19)


def _check_id(id: str) -> str:
    if not (id.isascii() and id.removeprefix("-").isdigit()):
        raise InvalidInput(f"Invalid experiment ID '{id[:100]}'. Experiment ID must be a valid integer.")
    return id


def _number(id: str) -> int:
    _check_id(id)
    if len(id) > 18 or id.startswith("-"):
        raise NotFound(f"No Experiment with id={id[:100]} exists")
    return int(id)


def _check_free(connection: sa.Connection, name: str) -> None:
    if connection.execute(sa.select(tables.experiment.c.id).where(tables.experiment.c.name == name)).first():
        raise AlreadyExists(f"Experiment(name={name}) already exists.", hint="Restore it if it was deleted.")
