"""Model versions: immutable, named by the digest of their files, with where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, InvalidInput, NotFound
from mainspring.db.tables import registry as tables
from mainspring.lineage import add_edge, get_execution, put_artifact, record_event
from mainspring.registry.formats import read_signature, warn_of_code
from mainspring.registry.models import MAX_DESCRIPTION, PROMPT_TAG, check_tag, get_model
from mainspring.registry.sources import Claim, download_uri, empty_tree, find_source
from mainspring.registry.webhooks import announce
from mainspring.tracking import (
    Comparison,
    check_length,
    check_max_results,
    check_orders,
    compare,
    compare_tag,
    get_run,
    next_token,
    order_clause,
    parse_filter,
    read_offset,
    tree_uri,
    upsert,
)

PIPELINE_RUN_TAG = "mainspring.pipeline_run_id"
EXECUTION_TAG = "mainspring.execution_id"
EVENT_TAG = "mainspring.event"
"""The event a run was started by: the cause of the versions that come out of it."""
STAGES = ("None", "Staging", "Production", "Archived")
_ACTIVE_STAGES = ("Staging", "Production")
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
_ORDERS = {"name": _MODEL.name, **_NUMBERS}


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
    stage: str
    warning: str
    """What to know before it is loaded: files that run code; empty if there is nothing."""
    created_at: int
    updated_at: int
    tags: dict[str, str]
    aliases: list[str]

    @property
    def is_prompt(self) -> bool:
        """Whether it is a prompt of MLflow, not a model."""
        return self.tags.get(PROMPT_TAG, "").lower() == "true"


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
    local_root: str = "",
) -> ModelVersion:
    """Register what ``source`` holds now as the next version; later changes of the source do not reach it.

    Sources are ``models:/m-<id>``, ``models:/NAME/3``, ``runs:/<run id>/path``, ``mlflow-artifacts:/path``, a folder
    below ``local_root``, or a place in an object store, whose files stay there.
    Records the version as output of the execution in the run's tag ``mainspring.execution_id``, and an event.
    """
    tags = dict(tags or {})
    for key, value in tags.items():
        check_tag(key, value)
    check_length("Description", description, MAX_DESCRIPTION), check_length("Run link", run_link, 500)
    number = _next_number(connection, clock, name)
    digest, is_prompt = empty_tree(blobs), tags.get(PROMPT_TAG, "").lower() == "true"
    if is_prompt:
        check_length("Source", source, 500)
    else:
        claim = Claim(uri=source, run_id=run_id, logged_model_id=logged_model_id, local_root=local_root)
        found = find_source(connection, blobs, claim)
        source, digest, run_id, logged_model_id = found.uri, found.digest, found.run_id, found.logged_model_id
    run_tags = _tags_of_run(connection, run_id)
    pipeline_run_id, execution_id = run_tags.get(PIPELINE_RUN_TAG, ""), run_tags.get(EXECUTION_TAG, "")
    about = {"version": str(number), "run_id": run_id, "pipeline_run_id": pipeline_run_id, "digest": digest}
    _record_artifact(connection, clock, name, about, execution_id)
    cause = cause or tags.get(EVENT_TAG) or run_tags.get(EVENT_TAG)
    event = record_event(
        connection, clock, "model.version.registered", source="registry", subject=f"{name}/{number}", cause=cause,
        data={**about, "name": name, "source": source, "execution_id": execution_id, "actor": actor},
    )  # fmt: skip
    now, model_id = clock.now_ms(), get_model(connection, name).id
    connection.execute(
        sa.insert(tables.model_version).values(
            model_id=model_id, version=number, digest=digest, source=source, run_id=run_id[:32],
            logged_model_id=logged_model_id[:34], run_link=run_link, description=description, user=actor[:256],
            signature=read_signature(blobs, digest), pipeline_run_id=pipeline_run_id[:64], stage=STAGES[0],
            execution_id=execution_id[:64], event=event, warning=warn_of_code(blobs, digest),
            created_at=now, updated_at=now,
        )
    )  # fmt: skip
    rows = [{"model_id": model_id, "version": number, "key": key, "value": value} for key, value in tags.items()]
    upsert(connection, tables.model_version_tag, rows, keys=("model_id", "version", "key"), update=("value",))
    made = get_version(connection, name, str(number))
    _announce_version(connection, clock, made)
    return made


def get_version(connection: sa.Connection, name: str, version: str) -> ModelVersion:
    """Return one version; raise `NotFound`."""
    number = _to_number(version)
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


def latest_by_stage(connection: sa.Connection, name: str, stages: Sequence[str] = ()) -> list[ModelVersion]:
    """Return the newest version of each of these stages (all stages if none), as MLflow's clients still ask."""
    wanted = [canonical_stage(stage) for stage in stages] or list(STAGES)
    model_id = get_model(connection, name).id
    newest = (
        sa.select(sa.func.max(_VERSION.version))
        .where(_VERSION.model_id == model_id, _VERSION.stage.in_(wanted))
        .group_by(_VERSION.stage)
    )
    query = _select().where(_VERSION.model_id == model_id, _VERSION.version.in_(newest))
    return _load(connection, query.order_by(_VERSION.version))


def canonical_stage(stage: str) -> str:
    """Return a stage as it is written; raise `InvalidInput` if there is none of that name."""
    found = next((known for known in STAGES if known.lower() == stage.lower()), None)
    if found is None:
        raise InvalidInput(f"Invalid Model Version stage: {stage[:50]}. Value must be one of {', '.join(STAGES)}.")
    return found


def transition_stage(
    connection: sa.Connection,
    clock: Clock,
    name: str,
    version: str,
    stage: str,
    *,
    archives_existing: bool = False,
    actor: str = "",
) -> ModelVersion:
    """Move a version to a stage; ``archives_existing`` moves those that are in it to Archived."""
    wanted, now = canonical_stage(stage), clock.now_ms()
    if archives_existing and wanted not in _ACTIVE_STAGES:
        raise InvalidInput(
            "Model version transition cannot archive existing model versions because "
            f"'{stage[:50]}' is not an Active stage. Valid stages are {list(_ACTIVE_STAGES)}"
        )
    found, model = get_version(connection, name, version), get_model(connection, name)
    table, mine = tables.model_version, _VERSION.model_id == model.id
    if archives_existing:
        others = (mine, _VERSION.stage == wanted, _VERSION.version != int(found.version))
        connection.execute(sa.update(table).where(*others).values(stage="Archived", updated_at=now))
    this = (mine, _VERSION.version == int(found.version))
    connection.execute(sa.update(table).where(*this).values(stage=wanted, updated_at=now))
    connection.execute(sa.update(tables.registered_model).where(_MODEL.id == model.id).values(updated_at=now))
    data = {"name": name, "version": found.version, "from": found.stage, "to": wanted, "actor": actor}
    record_event(
        connection, clock, "model.stage.moved", source="registry", subject=f"{name}/{found.version}", data=data
    )
    return get_version(connection, name, version)


def get_download_uri(connection: sa.Connection, blobs: LocalBlobs, name: str, version: str) -> str:
    """Return where clients read the files of a version: its own immutable ones if they are kept here."""
    found = get_version(connection, name, version)
    return download_uri(connection, found.source) if found.digest == empty_tree(blobs) else tree_uri(found.digest)


def search_versions(
    connection: sa.Connection,
    *,
    filter: str = "",
    order_by: Sequence[str] = (),
    max_results: int = 10_000,
    page_token: str | None = None,
) -> VersionPage:
    """Return the versions that match, last changed first unless ordered otherwise; prompts only if asked for."""
    limit, offset = check_max_results(max_results, 200_000), read_offset(page_token)
    query, comparisons = _select(), parse_filter(filter)
    for comparison in comparisons:
        query = query.where(_condition(connection, comparison))
    if not any(comparison.kind == "tag" and comparison.key == PROMPT_TAG for comparison in comparisons):
        query = query.where(~_is_prompt())
    check_orders(order_by)
    orders = [order_clause(clause, _ORDERS) for clause in order_by] or [_VERSION.updated_at.desc()]
    query = query.order_by(*orders, _MODEL.name, _VERSION.version.desc())
    found = _load(connection, query.limit(limit + 1).offset(offset))
    token = next_token(offset, limit, len(found))
    return VersionPage(versions=found[:limit], next_page_token=token)


def update_version(
    connection: sa.Connection, clock: Clock, name: str, version: str, *, description: str
) -> ModelVersion:
    """Change the description: the only thing besides tags that can change."""
    check_length("Description", description, MAX_DESCRIPTION)
    found = get_version(connection, name, version)
    where = (_VERSION.model_id == get_model(connection, name).id, _VERSION.version == int(found.version))
    changes = {"description": description, "updated_at": clock.now_ms()}
    connection.execute(sa.update(tables.model_version).where(*where).values(changes))
    return get_version(connection, name, version)


def delete_version(connection: sa.Connection, clock: Clock, name: str, version: str) -> None:
    """Remove a version and what points to it; its number is not used again, its lineage and its bytes stay."""
    found = get_version(connection, name, version)
    model = get_model(connection, name).id
    for table in (tables.model_alias, tables.model_version_tag, tables.model_version):
        connection.execute(sa.delete(table).where(table.c.model_id == model, table.c.version == int(found.version)))
    touched = sa.update(tables.registered_model).where(_MODEL.id == model)
    connection.execute(touched.values(updated_at=clock.now_ms()))


def set_version_tag(connection: sa.Connection, clock: Clock, name: str, version: str, key: str, value: str) -> None:
    """Set a tag of a version."""
    check_tag(key, value)
    found = get_version(connection, name, version)
    row = {"model_id": get_model(connection, name).id, "version": int(found.version), "key": key, "value": value}
    upsert(connection, tables.model_version_tag, [row], keys=("model_id", "version", "key"), update=("value",))
    event = "prompt_version_tag.set" if found.is_prompt else "model_version_tag.set"
    announce(connection, clock, event, {"name": name, "version": found.version, "key": key, "value": value})


def delete_version_tag(connection: sa.Connection, clock: Clock, name: str, version: str, key: str) -> None:
    """Remove a tag of a version, if it has it."""
    found, table = get_version(connection, name, version), tables.model_version_tag
    mine = (table.c.model_id == get_model(connection, name).id, table.c.version == int(found.version))
    connection.execute(sa.delete(table).where(*mine, table.c.key == key))
    event = "prompt_version_tag.deleted" if found.is_prompt else "model_version_tag.deleted"
    announce(connection, clock, event, {"name": name, "version": found.version, "key": key})


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


def _to_number(version: str) -> int:
    """Return a version's number; -1 for one that cannot be, `InvalidInput` for what is no number."""
    if not version.isascii() or not version.removeprefix("-").isdigit():
        raise InvalidInput(f"Parameter 'version' must be an integer, got '{version[:50]}'.")
    return int(version) if len(version) < 10 else -1


def _tags_of_run(connection: sa.Connection, run_id: str) -> dict[str, str]:
    """Return the tags of the run a version names; none if there is no such run here."""
    try:
        return get_run(connection, run_id).tags if run_id else {}
    except NotFound:
        return {}


def _announce_version(connection: sa.Connection, clock: Clock, version: ModelVersion) -> None:
    about = {"name": version.name, "version": version.version, "description": version.description or None}
    if version.is_prompt:
        hidden = (PROMPT_TAG, "mlflow.prompt.text", "_mlflow_prompt_type")
        tags = {key: value for key, value in version.tags.items() if key not in hidden}
        data = {**about, "template": version.tags.get("mlflow.prompt.text"), "tags": tags}
        announce(connection, clock, "prompt_version.created", data)
        return
    data = {**about, "source": version.source, "run_id": version.run_id or None, "tags": version.tags}
    announce(connection, clock, "model_version.created", data)


def _is_prompt() -> sa.ColumnElement[bool]:
    tag = tables.model_version_tag.c
    belongs = sa.and_(tag.model_id == _VERSION.model_id, tag.version == _VERSION.version)
    return sa.exists().where(belongs, tag.key == PROMPT_TAG, sa.func.lower(tag.value) == "true")


def _select() -> sa.Select[Any]:
    return sa.select(_MODEL.name, tables.model_version).join(tables.registered_model, _MODEL.id == _VERSION.model_id)


def _condition(connection: sa.Connection, comparison: Comparison) -> sa.ColumnElement[bool]:
    if comparison.kind == "tag":
        table = tables.model_version_tag.c
        belongs = sa.and_(table.model_id == _VERSION.model_id, table.version == _VERSION.version)
        return compare_tag(connection, comparison, table, belongs, absent_differs=comparison.key == PROMPT_TAG)
    columns = {**_TEXTS, **_NUMBERS}
    if comparison.kind != "attribute" or comparison.key not in columns:
        known = ", ".join(columns)
        raise InvalidInput(f"Invalid attribute key '{comparison.key[:100]}' specified. Valid keys are {known}")
    value = comparison.value
    if comparison.key == "version_number" and isinstance(value, str) and value.isascii() and value.isdigit():
        comparison = msgspec.structs.replace(comparison, value=float(value))  # clients have versions as texts
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
