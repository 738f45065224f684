"""Experiments: named groups of runs. The one called Default is made when it is first needed."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.api.kfp.filters import Field
from mainspring.api.kfp.listing import Listing, select_page, usual_fields
from mainspring.api.kfp.wire import Call, moment, text_field, without_empty
from mainspring.core import AlreadyExists, Clock, InvalidInput, NotFound, new_id
from mainspring.db.tables.kfp import kfp_experiment as table
from mainspring.lineage import Store

DEFAULT = "Default"
_LONGEST_NAME = 256


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A named group of runs. ``storage_state`` is AVAILABLE or ARCHIVED."""

    id: str
    name: str
    description: str
    storage_state: str
    created_at: int


LISTING: Listing[Experiment] = Listing(
    kind="experiment",
    id=lambda item: item.id,
    fields=usual_fields(
        Experiment,
        "experiment",
        id=lambda item: item.id,
        name=lambda item: item.name,
        description=lambda item: item.description,
        created_at=lambda item: item.created_at,
    )
    | {
        "storage_state": Field(read=lambda item: item.storage_state),
    },
)


def create(store: Store, call: Call) -> dict[str, Any]:
    """Make an experiment."""
    document = call.document()
    name = text_field(document, "display_name", _LONGEST_NAME)
    if not name.strip():
        raise InvalidInput("An experiment needs a display_name.", hint=f"Of at most {_LONGEST_NAME} characters.")
    with store.database.write() as connection:
        if _by_name(connection, name) is not None:
            raise AlreadyExists(f"There is an experiment {name!r} already.")
        return show(insert(connection, store.clock, name, text_field(document, "description")))


def list_(store: Store, call: Call) -> dict[str, Any]:
    """List experiments; the default one is always among them."""
    found = _all(store)
    if all(item.name != DEFAULT for item in found):
        with store.database.write() as connection:
            default_experiment(connection, store.clock)
        found = _all(store)
    page = select_page(LISTING, call, found)
    answer = {"experiments": [show(item) for item in page.items], "next_page_token": page.next_token}
    return {**without_empty(answer), "total_size": page.total}


def get(store: Store, call: Call) -> dict[str, Any]:
    """Return one experiment."""
    with store.database.read() as connection:
        return show(find(connection, call.path["id"]))


def delete(store: Store, call: Call) -> dict[str, Any]:
    """Forget an experiment; its runs and recurring runs stay."""
    with store.database.write() as connection:
        if find(connection, call.path["id"]).name == DEFAULT:
            raise InvalidInput("The default experiment cannot be deleted.", hint="Archive it to put it away.")
        connection.execute(sa.delete(table).where(table.c.id == call.path["id"]))
    return {}


def set_storage_state(connection: sa.Connection, id: str, state: str) -> None:
    """Put an experiment away, or take it out again; raise `NotFound`."""
    find(connection, id)
    connection.execute(sa.update(table).where(table.c.id == id).values(storage_state=state))


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


def _all(store: Store) -> list[Experiment]:
    with store.database.read() as connection:
        return [Experiment(**row) for row in connection.execute(sa.select(table)).mappings()]
