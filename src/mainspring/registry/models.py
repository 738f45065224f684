"""Registered models: names under which versions collect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import AlreadyExists, Clock, InvalidInput, NotFound, new_id
from mainspring.db.tables import registry as tables
from mainspring.tracking import (
    Comparison,
    check_key,
    check_length,
    check_max_results,
    compare,
    compare_tag,
    next_token,
    order_clause,
    parse_filter,
    read_offset,
    upsert,
)

MAX_TAG_VALUE = 100_000
_MODEL = tables.registered_model.c
_ORDERS: dict[str, sa.ColumnElement[Any]] = {
    "name": _MODEL.name,
    "timestamp": _MODEL.updated_at,
    "last_updated_timestamp": _MODEL.updated_at,
    "creation_timestamp": _MODEL.created_at,
}


class RegisteredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A name with versions; ``aliases`` maps each alias to its version."""

    id: str
    name: str
    description: str
    created_at: int
    updated_at: int
    tags: dict[str, str]
    aliases: dict[str, str]


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search."""

    models: list[RegisteredModel]
    next_page_token: str | None


def create_model(
    connection: sa.Connection,
    clock: Clock,
    name: str,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> RegisteredModel:
    """Register a name; raise `AlreadyExists` if it is taken."""
    _check_free(connection, _check_name(name))
    now = clock.now_ms()
    values = {"id": new_id(clock), "name": name, "description": check_length("Description", description, MAX_TAG_VALUE)}
    times = {"created_at": now, "updated_at": now, "last_version": 0}
    connection.execute(sa.insert(tables.registered_model).values(**values, **times))
    for key, value in (tags or {}).items():
        set_model_tag(connection, clock, name, key, value)
    return get_model(connection, name)


def get_model(connection: sa.Connection, name: str) -> RegisteredModel:
    """Return one registered model; raise `NotFound`."""
    found = _load(connection, sa.select(tables.registered_model).where(_MODEL.name == name))
    if not found:
        raise NotFound(f"Registered Model with name={name[:256]} not found")
    return found[0]


def list_models(connection: sa.Connection) -> list[RegisteredModel]:
    """Return all registered models by name."""
    return _load(connection, sa.select(tables.registered_model).order_by(_MODEL.name))


def search_models(
    connection: sa.Connection,
    *,
    filter: str = "",
    order_by: Sequence[str] = (),
    max_results: int = 100,
    page_token: str | None = None,
) -> ModelPage:
    """Return the registered models that match, by name unless ordered otherwise."""
    limit, offset = check_max_results(max_results, 1000), read_offset(page_token)
    query = sa.select(tables.registered_model)
    for comparison in parse_filter(filter):
        query = query.where(_condition(connection, comparison))
    query = query.order_by(*(order_clause(clause, _ORDERS) for clause in order_by), _MODEL.name)
    found = _load(connection, query.limit(limit).offset(offset))
    return ModelPage(models=found, next_page_token=next_token(offset, limit, len(found)))


def update_model(connection: sa.Connection, clock: Clock, name: str, *, description: str) -> RegisteredModel:
    """Change the description."""
    check_length("Description", description, MAX_TAG_VALUE)
    return _change(connection, clock, name, {"description": description})


def rename_model(connection: sa.Connection, clock: Clock, name: str, new_name: str) -> RegisteredModel:
    """Give a model another name; its versions and aliases come along."""
    _check_free(connection, _check_name(new_name))
    _change(connection, clock, name, {"name": new_name})
    return get_model(connection, new_name)


def delete_model(connection: sa.Connection, name: str) -> None:
    """Remove a name with its versions; the lineage and the bytes stay."""
    id = get_model(connection, name).id
    for table in (tables.model_alias, tables.model_version_tag, tables.model_version, tables.registered_model_tag):
        connection.execute(sa.delete(table).where(table.c.model_id == id))
    connection.execute(sa.delete(tables.registered_model).where(_MODEL.id == id))


def set_model_tag(connection: sa.Connection, clock: Clock, name: str, key: str, value: str) -> None:
    """Set a tag of a registered model."""
    check_key("tag", key)
    check_length("Registered model tag value", value, MAX_TAG_VALUE)
    row = {"model_id": get_model(connection, name).id, "key": key, "value": value}
    upsert(connection, tables.registered_model_tag, [row], keys=("model_id", "key"), update=("value",))
    _change(connection, clock, name, {})


def delete_model_tag(connection: sa.Connection, name: str, key: str) -> None:
    """Remove a tag of a registered model, if it has it."""
    table = tables.registered_model_tag
    where = (table.c.model_id == get_model(connection, name).id, table.c.key == key)
    connection.execute(sa.delete(table).where(*where))


def _condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    if comparison.kind == "tag":
        table = tables.registered_model_tag
        belongs = table.c.model_id == _MODEL.id
        return compare_tag(connection, comparison, table.c, belongs, absent_differs=True)
    if comparison.kind != "attribute" or comparison.key != "name":
        raise InvalidInput(
            f"Invalid attribute key '{comparison.key[:100]}' specified.", hint="Valid keys: name, tags.KEY."
        )
    return compare(connection, _MODEL.name, comparison, numeric=False)


def _change(connection: sa.Connection, clock: Clock, name: str, values: Mapping[str, str]) -> RegisteredModel:
    found = get_model(connection, name)
    where = _MODEL.id == found.id
    connection.execute(sa.update(tables.registered_model).where(where).values(updated_at=clock.now_ms(), **values))
    return msgspec.structs.replace(found, updated_at=clock.now_ms(), **values)


def _load(connection: sa.Connection, query: sa.Select[Any]) -> list[RegisteredModel]:
    rows = connection.execute(query).mappings().all()
    ids = [row["id"] for row in rows]
    tags: dict[str, dict[str, str]] = {id: {} for id in ids}
    aliases: dict[str, dict[str, str]] = {id: {} for id in ids}
    tag, alias = tables.registered_model_tag, tables.model_alias
    for row in connection.execute(sa.select(tag).where(tag.c.model_id.in_(ids)).order_by(tag.c.key)):
        tags[row.model_id][row.key] = row.value
    for row in connection.execute(sa.select(alias).where(alias.c.model_id.in_(ids)).order_by(alias.c.alias)):
        aliases[row.model_id][row.alias] = str(row.version)
    kept = [name for name in RegisteredModel.__struct_fields__ if name not in ("tags", "aliases")]
    return [
        RegisteredModel(**{name: row[name] for name in kept}, tags=tags[row["id"]], aliases=aliases[row["id"]])
        for row in rows
    ]


def _check_name(name: str) -> str:
    if not name.strip() or any(mark in name for mark in "/:\0") or not name.isprintable():
        raise InvalidInput(
            f"Registered model name {name[:100]!r} cannot be used.", hint="Names are not empty and without '/' and ':'."
        )
    return check_length("Registered model name", name, 256)


def _check_free(connection: sa.Connection, name: str) -> None:
    if connection.execute(sa.select(_MODEL.id).where(_MODEL.name == name)).first():
        raise AlreadyExists(f"Registered Model (name={name}) already exists.")
