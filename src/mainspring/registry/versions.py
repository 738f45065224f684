"""Model versions: immutable, named by the digest of their files, with where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.blobs import LocalBlobs, put_manifest
from mainspring.core import Clock, Conflict, InvalidInput, NotFound
from mainspring.db.tables import registry as tables
from mainspring.lineage import add_edge, get_execution, put_artifact, record_event
from mainspring.registry.models import MAX_TAG_VALUE, get_model
from mainspring.registry.sources import find_source, read_signature
from mainspring.tracking import (
    Comparison,
    check_key,
    check_length,
    check_max_results,
    compare,
    compare_tag,
    get_run,
    next_token,
    order_clause,
    parse_filter,
    read_offset,
    upsert,
)

PIPELINE_RUN_TAG = "mainspring.pipeline_run_id"
EXECUTION_TAG = "mainspring.execution_id"
EVENT_TAG = "mainspring.event"
"""The event a run was started by: the cause of the versions that come out of it."""
CHAMPION = "champion"
PROMPT_TAG = "mlflow.prompt.is_prompt"
_VERSION, _MODEL = tables.model_version.c, tables.registered_model.c
_NUMBERS: dict[str, sa.ColumnElement[Any]] = {
    "version_number": _VERSION.version,
    "creation_timestamp": _VERSION.created_at,
    "last_updated_timestamp": _VERSION.updated_at,
}
_TEXTS: dict[str, sa.ColumnElement[Any]] = {
    "name": _MODEL.name,
    "run_id": _VERSION.run_id,
    "source_path": _VERSION.source,
}


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version. ``digest`` names the tree of its files; ``signature`` is MLflow's, parsed, empty if it has none."""

    name: str
    version: str
    digest: str
    source: str
    run_id: str
    logged_model_id: str
    run_link: str
    description: str
    user: str
    signature: dict[str, Any]
    pipeline_run_id: str
    execution_id: str
    event: str
    created_at: int
    updated_at: int
    tags: dict[str, str]
    aliases: list[str]


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search."""

    versions: list[ModelVersion]
    next_page_token: str | None


def create_version(
    connection: sa.Connection,
    blobs: LocalBlobs,
    clock: Clock,
    *,
    name: str,
    source: str,
    run_id: str = "",
    logged_model_id: str = "",
    tags: Mapping[str, str] | None = None,
    description: str = "",
    run_link: str = "",
    actor: str = "",
    cause: str | None = None,
) -> ModelVersion:
    """Register what ``source`` holds now as the next version; later changes of the source do not reach it.

    Sources are ``models:/m-<id>``, ``models:/NAME/3``, ``runs:/<run id>/path`` and ``mlflow-artifacts:/path``.
    Records the version as output of the execution in the run's tag ``mainspring.execution_id``, and an event.
    """
    tags = dict(tags or {})
    check_length("Description", description, MAX_TAG_VALUE), check_length("Run link", run_link, 500)
    number = _next_number(connection, clock, name)
    if tags.get(PROMPT_TAG, "").lower() == "true":
        digest = put_manifest(blobs, [])
    else:
        found = find_source(connection, blobs, source, run_id=run_id, logged_model_id=logged_model_id)
        digest, run_id, logged_model_id = found.digest, found.run_id, found.logged_model_id
    run_tags = get_run(connection, run_id).tags if run_id else {}
    pipeline_run_id, execution_id = run_tags.get(PIPELINE_RUN_TAG, ""), run_tags.get(EXECUTION_TAG, "")
    about = {"version": str(number), "run_id": run_id, "pipeline_run_id": pipeline_run_id, "digest": digest}
    _record_artifact(connection, clock, name, about, execution_id)
    cause = cause or tags.get(EVENT_TAG) or run_tags.get(EVENT_TAG)
    event = record_event(
        connection, clock, "model.version.registered", source="registry", subject=f"{name}/{number}", cause=cause,
        data={**about, "name": name, "source": source, "execution_id": execution_id, "actor": actor},
    )  # fmt: skip
    now = clock.now_ms()
    connection.execute(
        sa.insert(tables.model_version).values(
            model_id=get_model(connection, name).id, version=number, digest=digest, source=source, run_id=run_id,
            logged_model_id=logged_model_id, run_link=run_link, description=description, user=actor[:256],
            signature=read_signature(blobs, digest), pipeline_run_id=pipeline_run_id[:64],
            execution_id=execution_id[:64], event=event, created_at=now, updated_at=now,
        )
    )  # fmt: skip
    for key, value in tags.items():
        set_version_tag(connection, name, str(number), key, value)
    return get_version(connection, name, str(number))


def get_version(connection: sa.Connection, name: str, version: str) -> ModelVersion:
    """Return one version; raise `NotFound`."""
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else -1
    found = _load(connection, _select().where(_MODEL.name == name, _VERSION.version == number))
    if not found:
        raise NotFound(f"Model Version (name={name[:256]}, version={version[:20]}) not found")
    return found[0]


def list_versions(connection: sa.Connection, name: str) -> list[ModelVersion]:
    """Return all versions of a model, newest first; none if there is no such model."""
    return _load(connection, _select().where(_MODEL.name == name).order_by(_VERSION.version.desc()))


def latest_versions(connection: sa.Connection, names: Sequence[str]) -> dict[str, ModelVersion]:
    """Return the newest version of each model that has one."""
    newest = sa.select(sa.func.max(_VERSION.version)).where(_VERSION.model_id == _MODEL.id).correlate(_MODEL.id.table)
    query = _select().where(_MODEL.name.in_(names), _VERSION.version == newest.scalar_subquery())
    return {version.name: version for version in _load(connection, query)}


def search_versions(
    connection: sa.Connection,
    *,
    filter: str = "",
    order_by: Sequence[str] = (),
    max_results: int = 10_000,
    page_token: str | None = None,
) -> VersionPage:
    """Return the versions that match, last changed first unless ordered otherwise."""
    limit, offset = check_max_results(max_results, 200_000), read_offset(page_token)
    query = _select()
    for comparison in parse_filter(filter):
        query = query.where(_condition(connection, comparison))
    orders = [order_clause(clause, {**_TEXTS, **_NUMBERS}) for clause in order_by]
    orders += [_VERSION.updated_at.desc(), _MODEL.name, _VERSION.version.desc()]
    found = _load(connection, query.order_by(*orders).limit(limit).offset(offset))
    return VersionPage(versions=found, next_page_token=next_token(offset, limit, len(found)))


def update_version(
    connection: sa.Connection, clock: Clock, name: str, version: str, *, description: str
) -> ModelVersion:
    """Change the description: the only thing besides tags that can change."""
    check_length("Description", description, MAX_TAG_VALUE)
    where = _key(connection, tables.model_version, name, version)
    changes = {"description": description, "updated_at": clock.now_ms()}
    connection.execute(sa.update(tables.model_version).where(*where).values(changes))
    return get_version(connection, name, version)


def delete_version(connection: sa.Connection, name: str, version: str) -> None:
    """Remove a version and its aliases; its number is not used again, its lineage and its bytes stay.

    Raises `Conflict` for the champion: what is in production can be replaced, not deleted.
    """
    if CHAMPION in get_version(connection, name, version).aliases:
        raise Conflict(
            f"Version {version} of {name} is the @{CHAMPION} and cannot be deleted.", hint="Move the alias first."
        )
    for table in (tables.model_alias, tables.model_version_tag, tables.model_version):
        connection.execute(sa.delete(table).where(*_key(connection, table, name, version)))


def set_version_tag(connection: sa.Connection, name: str, version: str, key: str, value: str) -> None:
    """Set a tag of a version."""
    check_key("tag", key)
    check_length("Model version tag value", value, MAX_TAG_VALUE)
    found = get_version(connection, name, version)
    row = {"model_id": get_model(connection, name).id, "version": int(found.version), "key": key, "value": value}
    upsert(connection, tables.model_version_tag, [row], keys=("model_id", "version", "key"), update=("value",))


def delete_version_tag(connection: sa.Connection, name: str, version: str, key: str) -> None:
    """Remove a tag of a version, if it has it."""
    table = tables.model_version_tag
    connection.execute(sa.delete(table).where(*_key(connection, table, name, version), table.c.key == key))


def _next_number(connection: sa.Connection, clock: Clock, name: str) -> int:
    """Take the next version number; the update locks the model's row until the transaction ends."""
    get_model(connection, name)
    changes = {"last_version": _MODEL.last_version + 1, "updated_at": clock.now_ms()}
    connection.execute(sa.update(tables.registered_model).where(_MODEL.name == name).values(changes))
    return int(connection.execute(sa.select(_MODEL.last_version).where(_MODEL.name == name)).scalar_one())


def _record_artifact(
    connection: sa.Connection, clock: Clock, name: str, about: Mapping[str, str], execution_id: str
) -> None:
    uri = f"models:/{name}/{about['version']}"
    artifact = put_artifact(
        connection, clock, type="Model", name=name, uri=uri, digest=about["digest"], properties=dict(about)
    )
    if not execution_id:
        return
    try:
        execution = get_execution(connection, execution_id)
    except NotFound:  # the tag is the client's word; a version does not depend on it
        return
    add_edge(connection, execution.id, artifact, "OUTPUT", f"{name}/{about['version']}"[:256])


def _key(
    connection: sa.Connection, table: sa.Table, name: str, version: str
) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    found = get_version(connection, name, version)
    return table.c.model_id == get_model(connection, name).id, table.c.version == int(found.version)


def _select() -> sa.Select[Any]:
    return sa.select(_MODEL.name, tables.model_version).join(tables.registered_model, _MODEL.id == _VERSION.model_id)


def _condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    if comparison.kind == "tag":
        table = tables.model_version_tag.c
        belongs = sa.and_(table.model_id == _VERSION.model_id, table.version == _VERSION.version)
        return compare_tag(connection, comparison, table, belongs, absent_differs=True)
    columns = {**_TEXTS, **_NUMBERS}
    if comparison.kind != "attribute" or comparison.key not in columns:
        known = ", ".join(columns)
        raise InvalidInput(f"Invalid attribute key '{comparison.key[:100]}' specified.", hint=f"Valid keys: {known}.")
    return compare(connection, columns[comparison.key], comparison, numeric=comparison.key in _NUMBERS)


def _load(connection: sa.Connection, query: sa.Select[Any]) -> list[ModelVersion]:
    rows = connection.execute(query).mappings().all()
    ids = {row["model_id"] for row in rows}
    tags: dict[tuple[str, int], dict[str, str]] = {(row["model_id"], row["version"]): {} for row in rows}
    aliases: dict[tuple[str, int], list[str]] = {key: [] for key in tags}
    tag, alias = tables.model_version_tag, tables.model_alias
    for found in connection.execute(sa.select(tag).where(tag.c.model_id.in_(ids)).order_by(tag.c.key)):
        tags.get((found.model_id, found.version), {})[found.key] = found.value
    for found in connection.execute(sa.select(alias).where(alias.c.model_id.in_(ids)).order_by(alias.c.alias)):
        aliases.get((found.model_id, found.version), []).append(found.alias)
    versions = []
    for row in rows:
        key = (row["model_id"], row["version"])
        fields = {name: value for name, value in row.items() if name != "model_id"}
        fields["version"] = str(row["version"])
        versions.append(ModelVersion(**fields, tags=tags[key], aliases=aliases[key]))
    return versions
