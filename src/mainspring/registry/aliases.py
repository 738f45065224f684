"""Aliases: names that move between versions, with a history of who moved them and why."""

from __future__ import annotations

import re

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock, InvalidInput, NotFound, new_id
from mainspring.db.tables import registry as tables
from mainspring.lineage import record_event
from mainspring.registry.models import delete_model, get_model
from mainspring.registry.versions import ModelVersion, delete_version, get_version, latest_by_stage, latest_versions
from mainspring.registry.webhooks import announce
from mainspring.tracking import check_length, upsert

_ALIAS = re.compile(r"[\w\-]+", re.ASCII)
_VERSION_LIKE = re.compile(r"v\d+", re.IGNORECASE | re.ASCII)


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """An alias went from one version (None: it was new) to another (None: it was removed)."""

    id: str
    name: str
    alias: str
    from_version: str | None
    to_version: str | None
    actor: str
    reason: str
    cause: str | None
    event: str
    moved_at: int


def set_alias(
    connection: sa.Connection,
    clock: Clock,
    *,
    name: str,
    alias: str,
    version: str,
    actor: str,
    reason: str,
    cause: str | None = None,
) -> str | None:
    """Point an alias to a version, keep the move, and return the id of its event; None if it points there already."""
    _check_alias(alias)
    wanted = get_version(connection, name, version)
    model = get_model(connection, name)
    before = model.aliases.get(alias)
    if before == wanted.version:
        return None
    row = {"model_id": model.id, "alias": alias, "version": int(wanted.version)}
    upsert(connection, tables.model_alias, [row], keys=("model_id", "alias"), update=("version",))
    kind = "prompt_alias.created" if model.is_prompt else "model_version_alias.created"
    announce(connection, clock, kind, {"name": name, "alias": alias, "version": wanted.version})
    return _record_move(
        connection, clock, name=name, alias=alias, before=before, after=wanted.version, actor=actor, reason=reason,
        cause=cause,
    )  # fmt: skip


def remove_version(
    connection: sa.Connection, clock: Clock, *, name: str, version: str, actor: str, reason: str
) -> None:
    """Remove a version; the aliases that pointed to it are gone too, and their history says so."""
    found = get_version(connection, name, version)
    delete_version(connection, clock, name, version)
    for alias in found.aliases:
        _record_move(
            connection, clock, name=name, alias=alias, before=found.version, after=None, actor=actor, reason=reason,
            cause=None,
        )  # fmt: skip


def remove_model(connection: sa.Connection, clock: Clock, *, name: str, actor: str, reason: str) -> None:
    """Remove a name with its versions; the history of its aliases says that they are gone too."""
    aliases = get_model(connection, name).aliases
    delete_model(connection, name)
    for alias, version in aliases.items():
        _record_move(
            connection, clock, name=name, alias=alias, before=version, after=None, actor=actor, reason=reason,
            cause=None,
        )  # fmt: skip


def delete_alias(
    connection: sa.Connection, clock: Clock, *, name: str, alias: str, actor: str, reason: str
) -> str | None:
    """Remove an alias, keep that it was, and return the id of the event; None if there was none."""
    _check_length(alias)
    model = get_model(connection, name)
    before = model.aliases.get(alias)
    if before is None:
        return None
    table = tables.model_alias
    connection.execute(sa.delete(table).where(table.c.model_id == model.id, table.c.alias == alias))
    kind = "prompt_alias.deleted" if model.is_prompt else "model_version_alias.deleted"
    announce(connection, clock, kind, {"name": name, "alias": alias})
    return _record_move(
        connection, clock, name=name, alias=alias, before=before, after=None, actor=actor, reason=reason, cause=None
    )


def resolve_alias(connection: sa.Connection, name: str, alias: str) -> ModelVersion | None:
    """Return the version an alias points to, or None."""
    _check_length(alias)
    table, model = tables.model_alias, tables.registered_model
    query = sa.select(table.c.version).join(model, model.c.id == table.c.model_id)
    version = connection.execute(query.where(model.c.name == name, table.c.alias == alias)).scalar()
    return None if version is None else get_version(connection, name, str(version))


def resolve(connection: sa.Connection, uri: str) -> ModelVersion:
    """Return what ``models:/NAME@ALIAS``, ``models:/NAME/3``, ``models:/NAME/latest`` or ``NAME`` (latest) names."""
    path = uri.removeprefix("models:/")
    name, at, alias = path.rpartition("@")
    if at:
        found = resolve_alias(connection, name, alias)
        if found is None:
            get_model(connection, name)
            raise NotFound(f"Registered model alias {alias[:100]} not found.", hint=f"Set it: {name}@{alias[:100]}")
        return found
    name, _, version = path.partition("/")
    if version.lower() in ("none", "staging", "production", "archived"):
        found_in_stage = latest_by_stage(connection, name, [version])
        if not found_in_stage:
            raise NotFound(f"Registered model {name} has no version in stage {version}.")
        return found_in_stage[0]
    if version and version.lower() != "latest":
        return get_version(connection, name, version)
    newest = latest_versions(connection, [get_model(connection, name).name]).get(name)
    if newest is None:
        raise NotFound(f"Registered model {name} has no version yet.")
    return newest


def alias_history(connection: sa.Connection, name: str, *, alias: str | None = None) -> list[AliasMove]:
    """Return the moves of a model's aliases (or one of them), newest first."""
    table = tables.alias_move
    query = sa.select(table).where(table.c.name == name).order_by(table.c.moved_at.desc(), table.c.id.desc())
    if alias is not None:
        query = query.where(table.c.alias == alias)
    return [AliasMove(**row) for row in connection.execute(query).mappings()]


def _record_move(
    connection: sa.Connection,
    clock: Clock,
    *,
    name: str,
    alias: str,
    before: str | None,
    after: str | None,
    actor: str,
    reason: str,
    cause: str | None,
) -> str:
    data = {"name": name, "alias": alias, "from": before, "to": after, "actor": actor, "reason": reason}
    event = record_event(
        connection, clock, "model.alias.moved", source="registry", subject=name, data=data, cause=cause
    )
    move = AliasMove(
        id=new_id(clock), name=name, alias=alias, from_version=before, to_version=after, actor=actor, reason=reason,
        cause=cause, event=event, moved_at=clock.now_ms(),
    )  # fmt: skip
    connection.execute(sa.insert(tables.alias_move).values(msgspec.structs.asdict(move)))
    return event


def _check_length(alias: str) -> None:
    check_length("Registered model alias name", alias, 255)


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"Invalid alias name: '{alias[:100]}'. Names may only contain alphanumerics, underscores (_), and dashes "
            "(-)."
        )
    if alias.lower() == "latest":
        raise InvalidInput("'latest' alias name (case insensitive) is reserved.")
    if _VERSION_LIKE.fullmatch(alias):
        raise InvalidInput(f"Version alias name '{alias[:100]}' is reserved.")
    _check_length(alias)
