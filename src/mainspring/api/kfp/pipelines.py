"""Uploaded pipelines and their versions: compiled files kept by their digest."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.api.kfp.wire import (
    Call,
    moment,
    page_of,
    pipeline_file,
    text_field,
    uploaded_file,
    wanted_name,
    without_empty,
)
from mainspring.core import AlreadyExists, InvalidInput, NotFound, new_id
from mainspring.db.tables.kfp import kfp_pipeline, kfp_pipeline_version
from mainspring.lineage import Store
from mainspring.pipelines import read_compiled
from mainspring.pipelines.remote import Documents, split_documents, write_documents


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline somebody uploaded."""

    id: str
    name: str
    description: str
    created_at: int


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled file of a pipeline."""

    id: str
    pipeline_id: str
    name: str
    description: str
    ir_digest: str
    created_at: int


def upload(store: Store, call: Call) -> dict[str, Any]:
    """Keep an uploaded file as the first version of a new pipeline."""
    ir = _read_upload(call)
    name = call.query.get("display_name") or call.query.get("name") or read_compiled(ir).name
    description = call.query.get("description", "")
    digest = store.blobs.put(ir)
    with store.database.write() as connection:
        pipeline = _insert(connection, store, name, description)
        _insert_version(connection, store, pipeline, name, description, digest)
    return show(pipeline)


def upload_version(store: Store, call: Call) -> dict[str, Any]:
    """Keep an uploaded file as another version of a pipeline."""
    ir = _read_upload(call)
    digest = store.blobs.put(ir)
    with store.database.write() as connection:
        pipeline = find(connection, call.query.get("pipelineid", ""))
        name = call.query.get("display_name") or call.query.get("name") or new_id(store.clock)
        version = _insert_version(connection, store, pipeline, name, call.query.get("description", ""), digest)
    return show_version(store, version)


def create(store: Store, call: Call) -> dict[str, Any]:
    """Make a pipeline without a version."""
    document = call.document()
    name = text_field(document, "display_name") or text_field(document, "name")
    with store.database.write() as connection:
        return show(_insert(connection, store, name, text_field(document, "description")))


def list_(store: Store, call: Call) -> dict[str, Any]:
    """List pipelines, newest first, or the one of a name."""
    name = wanted_name(call)
    query = sa.select(kfp_pipeline).order_by(kfp_pipeline.c.created_at.desc(), kfp_pipeline.c.id.desc())
    if name is not None:
        query = query.where(kfp_pipeline.c.name == name)
    with store.database.read() as connection:
        found = [Pipeline(**row) for row in connection.execute(query).mappings()]
    page, token = page_of(call, found)
    answer = {"pipelines": [show(item) for item in page], "next_page_token": token}
    return {**without_empty(answer), "total_size": len(found)}


def get(store: Store, call: Call) -> dict[str, Any]:
    """Return one pipeline."""
    with store.database.read() as connection:
        return show(find(connection, call.path["id"]))


def get_by_name(store: Store, call: Call) -> dict[str, Any]:
    """Return the pipeline of a name."""
    query = sa.select(kfp_pipeline).where(kfp_pipeline.c.name == call.path["name"])
    with store.database.read() as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"There is no pipeline {call.path['name']!r}.")
    return show(Pipeline(**row))


def delete(store: Store, call: Call) -> dict[str, Any]:
    """Forget a pipeline and its versions; runs of them stay."""
    id = call.path["id"]
    with store.database.write() as connection:
        find(connection, id)
        connection.execute(sa.delete(kfp_pipeline_version).where(kfp_pipeline_version.c.pipeline_id == id))
        connection.execute(sa.delete(kfp_pipeline).where(kfp_pipeline.c.id == id))
    return {}


def list_versions(store: Store, call: Call) -> dict[str, Any]:
    """List the versions of a pipeline, newest first."""
    with store.database.read() as connection:
        find(connection, call.path["id"])
        found = _versions(connection, call.path["id"])
    page, token = page_of(call, found)
    answer = {"pipeline_versions": [show_version(store, item) for item in page], "next_page_token": token}
    return {**without_empty(answer), "total_size": len(found)}


def get_version(store: Store, call: Call) -> dict[str, Any]:
    """Return one version with its compiled pipeline."""
    with store.database.read() as connection:
        return show_version(store, find_version(connection, call.path["id"], call.path["version"]))


def delete_version(store: Store, call: Call) -> dict[str, Any]:
    """Forget a version; runs of it stay."""
    with store.database.write() as connection:
        version = find_version(connection, call.path["id"], call.path["version"])
        connection.execute(sa.delete(kfp_pipeline_version).where(kfp_pipeline_version.c.id == version.id))
    return {}


def find(connection: sa.Connection, id: str) -> Pipeline:
    """Return one pipeline; raise `NotFound`."""
    row = connection.execute(sa.select(kfp_pipeline).where(kfp_pipeline.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no pipeline {id}.", hint="Upload it with: Client.upload_pipeline(FILE)")
    return Pipeline(**row)


def find_version(connection: sa.Connection, pipeline_id: str, version_id: str = "") -> Version:
    """Return a version of a pipeline, the newest when none is named; raise `NotFound`."""
    find(connection, pipeline_id)
    for version in _versions(connection, pipeline_id):
        if version_id in ("", version.id):
            return version
    raise NotFound(f"The pipeline {pipeline_id} has no version {version_id}.".replace(" .", "."))


def show(pipeline: Pipeline) -> dict[str, Any]:
    """Return a pipeline as the API writes it."""
    return without_empty(
        {
            "pipeline_id": pipeline.id,
            "display_name": pipeline.name,
            "name": pipeline.name,
            "description": pipeline.description,
            "created_at": moment(pipeline.created_at),
        }
    )


def show_version(store: Store, version: Version) -> dict[str, Any]:
    """Return a version as the API writes it."""
    return without_empty(
        {
            "pipeline_id": version.pipeline_id,
            "pipeline_version_id": version.id,
            "display_name": version.name,
            "name": version.name,
            "description": version.description,
            "created_at": moment(version.created_at),
            "pipeline_spec": spec_of(store, version.ir_digest),
        }
    )


def spec_of(store: Store, digest: str) -> dict[str, Any]:
    """Return a compiled file as the API carries it: both its documents, or the one it has."""
    documents = split_documents(store.blobs.read(digest))
    if documents.platform is None:
        return documents.pipeline
    return {"pipeline_spec": documents.pipeline, "platform_spec": documents.platform}


def file_of(spec: dict[str, Any]) -> bytes:
    """Return the compiled file that a body carries; raise `InvalidInput` when it is none."""
    if "pipeline_spec" in spec:
        parts = Documents(pipeline=spec["pipeline_spec"], platform=spec.get("platform_spec") or None)
    else:
        parts = Documents(pipeline=spec)
    if not isinstance(parts.pipeline, dict):
        raise InvalidInput("The pipeline_spec is not a compiled pipeline.", hint="Compile it with kfp.")
    ir = msgspec.json.encode(parts.pipeline) if parts.platform is None else write_documents(parts)
    read_compiled(ir)
    return ir


def _read_upload(call: Call) -> bytes:
    ir = pipeline_file(*uploaded_file(call))
    read_compiled(ir)
    return ir


def _versions(connection: sa.Connection, pipeline_id: str) -> list[Version]:
    columns = kfp_pipeline_version.c
    query = sa.select(kfp_pipeline_version).where(columns.pipeline_id == pipeline_id)
    rows = connection.execute(query.order_by(columns.created_at.desc(), columns.id.desc())).mappings()
    return [Version(**row) for row in rows]


def _insert(connection: sa.Connection, store: Store, name: str, description: str) -> Pipeline:
    if not name or len(name) > 256:
        raise InvalidInput("A pipeline needs a name of at most 256 characters.")
    taken = connection.execute(sa.select(kfp_pipeline.c.id).where(kfp_pipeline.c.name == name)).scalar()
    if taken is not None:
        raise AlreadyExists(f"There is a pipeline {name!r} already.", hint="Upload a new version of it.")
    made = Pipeline(id=new_id(store.clock), name=name, description=description, created_at=store.clock.now_ms())
    connection.execute(sa.insert(kfp_pipeline).values(**msgspec.to_builtins(made)))
    return made


def _insert_version(
    connection: sa.Connection, store: Store, pipeline: Pipeline, name: str, description: str, digest: str
) -> Version:
    if len(name) > 256 or any(version.name == name for version in _versions(connection, pipeline.id)):
        raise AlreadyExists(f"The pipeline {pipeline.name!r} has a version {name[:256]!r} already.")
    made = Version(
        id=new_id(store.clock), pipeline_id=pipeline.id, name=name, description=description, ir_digest=digest,
        created_at=store.clock.now_ms(),
    )  # fmt: skip
    connection.execute(sa.insert(kfp_pipeline_version).values(**msgspec.to_builtins(made)))
    return made
