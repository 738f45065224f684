"""Registered models: names under which versions collect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from mainspring.core import AlreadyExists, Clock, InvalidInput, NotFound, new_id
from mainspring.db.tables import registry as tables
from mainspring.registry.webhooks import announce
from mainspring.tracking import (
    Comparison,
    check_key,
    check_length,
    check_max_results,
    check_orders,
    check_plain,
    compare,
    compare_tag,
    next_token,
    parse_filter,
    parse_order,
    read_offset,
    upsert,
)

MAX_TAG_VALUE = 100_000
MAX_DESCRIPTION = 100_000
PROMPT_TAG = "mlflow.prompt.is_prompt"
_PROMPT_INTERNAL = (PROMPT_TAG, "_mlflow_prompt_type")
_MODEL = tables.registered_model.c
_ORDERS: dict[str, sa.ColumnElement[Any]] = {
    "name": _MODEL.name,
    "timestamp": _MODEL.updated_at,
    "last_updated_timestamp": _MODEL.updated_at,
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

    @property
    def is_prompt(self) -> bool:
        """Whether MLflow keeps a prompt under this name, not models."""
        return self.tags.get(PROMPT_TAG, "").lower() == "true"


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
    tags = dict(tags or {})
    for key, value in tags.items():
        check_tag(key, value)
    _check_free(connection, _check_name(name))
    now, id = clock.now_ms(), new_id(clock)
    description = check_length("Description", description, MAX_DESCRIPTION)
    values = {"id": id, "name": name, "description": description, "created_at": now, "updated_at": now}
    connection.execute(sa.insert(tables.registered_model).values(**values, last_version=0))
    rows = [{"model_id": id, "key": key, "value": value} for key, value in tags.items()]
    upsert(connection, tables.registered_model_tag, rows, keys=("model_id", "key"), update=("value",))
    made = get_model(connection, name)
    shown = {key: value for key, value in tags.items() if not made.is_prompt or key not in _PROMPT_INTERNAL}
    event = "prompt.created" if made.is_prompt else "registered_model.created"
    announce(connection, clock, event, {"name": name, "tags": shown, "description": description})
    return made


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
    """Return the registered models that match, by name unless ordered otherwise; prompts only if asked for."""
    limit, offset = check_max_results(max_results, 1000), read_offset(page_token)
    query = sa.select(tables.registered_model)
    comparisons = parse_filter(filter)
    for comparison in comparisons:
        query = query.where(_condition(connection, comparison))
    if not any(comparison.kind == "tag" and comparison.key == PROMPT_TAG for comparison in comparisons):
        query = query.where(~_is_prompt(tables.registered_model_tag.c))
    check_orders(order_by, {"timestamp": "last_updated_timestamp"})
    query = query.order_by(*(_order(clause) for clause in order_by), _MODEL.name)
    found = _load(connection, query.limit(limit + 1).offset(offset))
    token = next_token(offset, limit, len(found))
    return ModelPage(models=found[:limit], next_page_token=token)


def update_model(connection: sa.Connection, clock: Clock, name: str, *, description: str) -> RegisteredModel:
    """Change the description."""
    check_length("Description", description, MAX_TAG_VALUE)
    return _change(connection, clock, name, {"description": description})


def rename_model(connection: sa.Connection, clock: Clock, name: str, new_name: str) -> RegisteredModel:
    """Give a model another name; its versions, its aliases and their history come along."""
    get_model(connection, name)
    if _check_name(new_name) != name:
        _check_free(connection, new_name)
    _change(connection, clock, name, {"name": new_name})
    moves = tables.alias_move
    connection.execute(sa.update(moves).where(moves.c.name == name).values(name=new_name))
    versions = tables.model_version
    mine = versions.c.model_id == get_model(connection, new_name).id
    connection.execute(sa.update(versions).where(mine).values(updated_at=clock.now_ms()))
    return get_model(connection, new_name)


def delete_model(connection: sa.Connection, name: str) -> None:
    """Remove a name with its versions; the lineage, the history of its aliases and the bytes stay."""
    id = get_model(connection, name).id
    for table in (tables.model_alias, tables.model_version_tag, tables.model_version, tables.registered_model_tag):
        connection.execute(sa.delete(table).where(table.c.model_id == id))
    connection.execute(sa.delete(tables.registered_model).where(_MODEL.id == id))


def set_model_tag(connection: sa.Connection, clock: Clock, name: str, key: str, value: str) -> None:
    """Set a tag of a registered model."""
    check_tag(key, value)
    found = get_model(connection, name)
    row = {"model_id": found.id, "key": key, "value": value}
    upsert(connection, tables.registered_model_tag, [row], keys=("model_id", "key"), update=("value",))
    if found.is_prompt:
        announce(connection, clock, "prompt_tag.set", {"name": name, "key": key, "value": value})


def delete_model_tag(connection: sa.Connection, clock: Clock, name: str, key: str) -> None:
    """Remove a tag of a registered model, if it has it."""
    check_key("tag", key)
    table, found = tables.registered_model_tag, get_model(connection, name)
    connection.execute(sa.delete(table).where(table.c.model_id == found.id, table.c.key == key))
    if found.is_prompt:
        announce(connection, clock, "prompt_tag.deleted", {"name": name, "key": key})


def check_tag(key: str, value: str) -> None:
    """Raise `InvalidInput` for a tag a registered model or a version cannot have."""
    check_key("tag", key)
    check_length("value", value, MAX_TAG_VALUE)


def _is_prompt(tag: ReadOnlyColumnCollection[str, sa.Column[Any]]) -> sa.ColumnElement[bool]:
    return sa.exists().where(tag.model_id == _MODEL.id, tag.key == PROMPT_TAG, sa.func.lower(tag.value) == "true")


def _condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    if comparison.kind == "tag":
        table = tables.registered_model_tag
        belongs = table.c.model_id == _MODEL.id
        return compare_tag(connection, comparison, table.c, belongs, absent_differs=comparison.key == PROMPT_TAG)
    if comparison.kind != "attribute" or comparison.key != "name":
        raise InvalidInput(f"Invalid attribute key '{comparison.key[:100]}' specified. Valid keys are '{{'name'}}'")
    return compare(connection, _MODEL.name, comparison, numeric=False)


def _order(clause: str) -> sa.ColumnElement[Any]:
    kind, key, ascends = parse_order(clause)
    if kind != "attribute" or key not in _ORDERS:
        raise InvalidInput(f"Invalid order by key '{key[:100]}' specified. Valid keys are {{'timestamp', 'name'}}")
    return _ORDERS[key].asc() if ascends else _ORDERS[key].desc()


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
    if not name.strip():
        raise InvalidInput("Missing value for required parameter 'name'.")
    if any(mark in name for mark in "/:\0") or not name.isprintable():
        raise InvalidInput(f"Invalid model name '{name[:100]}'. Names cannot contain '/' or ':'.")
    return check_plain("name", check_length("name", name, 256))


def _check_free(connection: sa.Connection, name: str) -> None:
    if connection.execute(sa.select(_MODEL.id).where(_MODEL.name == name)).first():
        raise AlreadyExists(f"Registered Model (name={name}) already exists.")
