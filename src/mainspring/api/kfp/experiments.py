"""Experiments: named groups of runs. The one called Default is made when it is first needed."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.api.kfp.wire import Call, moment, page_of, text_field, wanted_name, without_empty
from mainspring.core import AlreadyExists, Clock, InvalidInput, NotFound, new_id
from mainspring.db.tables.kfp import kfp_experiment as table
from mainspring.lineage import Store

DEFAULT = "Default"


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A named group of runs. ``storage_state`` is AVAILABLE or ARCHIVED."""

    id: str
    name: str
    description: str
    storage_state: str
    created_at: int


def create(store: Store, call: Call) -> dict[str, Any]:
    """Make an experiment."""
    document = call.document()
    name = text_field(document, "display_name").strip()
    if not name or len(name) > 256:
        raise InvalidInput("An experiment needs a display_name of at most 256 characters.")
    with store.database.write() as connection:
        if _by_name(connection, name) is not None:
            raise AlreadyExists(f"There is an experiment {name!r} already.")
        return show(insert(connection, store.clock, name, text_field(document, "description")))


def list_(store: Store, call: Call) -> dict[str, Any]:
    """List experiments, newest first, or the one of a name."""
    name = wanted_name(call)
    with store.database.write() as connection:
        if name == DEFAULT:
            default_experiment(connection, store.clock)
        query = sa.select(table).order_by(table.c.created_at.desc(), table.c.id.desc())
        found = [Experiment(**row) for row in connection.execute(query).mappings()]
    page, token = page_of(call, [item for item in found if name in (None, item.name)])
    return without_empty({"experiments": [show(item) for item in page], "next_page_token": token})


def get(store: Store, call: Call) -> dict[str, Any]:
    """Return one experiment."""
    with store.database.read() as connection:
        return show(find(connection, call.path["id"]))


def delete(store: Store, call: Call) -> dict[str, Any]:
    """Forget an experiment; its runs stay."""
    with store.database.write() as connection:
        find(connection, call.path["id"])
        connection.execute(sa.delete(table).where(table.c.id == call.path["id"]))
    return {}


def archive(store: Store, call: Call) -> dict[str, Any]:
    """Put an experiment away."""
    return _store(store, call, "ARCHIVED")


def unarchive(store: Store, call: Call) -> dict[str, Any]:
    """Take an experiment out again."""
    return _store(store, call, "AVAILABLE")


def find(connection: sa.Connection, id: str) -> Experiment:
    """Return one experiment; raise `NotFound`."""
    row = connection.execute(sa.select(table).where(table.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no experiment {id}.")
    return Experiment(**row)


def default_experiment(connection: sa.Connection, clock: Clock) -> Experiment:
    """Return the experiment of runs that name none."""
    return _by_name(connection, DEFAULT) or insert(connection, clock, DEFAULT, "Runs that name no experiment")


def insert(connection: sa.Connection, clock: Clock, name: str, description: str) -> Experiment:
    """Record a new experiment."""
    made = Experiment(
        id=new_id(clock), name=name, description=description, storage_state="AVAILABLE", created_at=clock.now_ms()
    )
    connection.execute(sa.insert(table).values(**msgspec.to_builtins(made)))
    return made


def show(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment as the API writes it."""
    return without_empty(
        {
            "experiment_id": experiment.id,
            "display_name": experiment.name,
            "description": experiment.description,
            "created_at": moment(experiment.created_at),
            "storage_state": experiment.storage_state,
        }
    )


def _by_name(connection: sa.Connection, name: str) -> Experiment | None:
    row = connection.execute(sa.select(table).where(table.c.name == name)).mappings().first()
    return Experiment(**row) if row else None


def _store(store: Store, call: Call, state: str) -> dict[str, Any]:
    with store.database.write() as connection:
        find(connection, call.path["id"])
        connection.execute(sa.update(table).where(table.c.id == call.path["id"]).values(storage_state=state))
    return {}
