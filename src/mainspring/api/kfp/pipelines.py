"""Uploaded pipelines and their versions: compiled files kept by their digest."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.api.kfp.listing import Listing, select_page, usual_fields
from mainspring.api.kfp.wire import Call, moment, object_field, pipeline_file, text_field, uploaded_file, without_empty
from mainspring.core import AlreadyExists, InvalidInput, NotFound, new_id
from mainspring.db.tables.kfp import kfp_pipeline, kfp_pipeline_version
from mainspring.lineage import Store
from mainspring.pipelines import read_compiled
from mainspring.pipelines.remote import Documents, split_documents, write_documents

_LONGEST_NAME = 256


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


PIPELINES: Listing[Pipeline] = Listing(
    kind="pipeline",
    id=lambda item: item.id,
    fields=usual_fields(
        Pipeline,
        "pipeline",
        id=lambda item: item.id,
        name=lambda item: item.name,
        description=lambda item: item.description,
        created_at=lambda item: item.created_at,
    ),
)
VERSIONS: Listing[Version] = Listing(
    kind="pipeline_version",
    id=lambda item: item.id,
    fields=usual_fields(
        Version,
        "pipeline_version",
        id=lambda item: item.id,
        name=lambda item: item.name,
        description=lambda item: item.description,
        created_at=lambda item: item.created_at,
    ),
)


def upload(store: Store, call: Call) -> dict[str, Any]:
    """Keep an uploaded file as the first version of a new pipeline."""
    ir = _read_upload(call)
    name = call.text("display_name") or call.text("name") or read_compiled(ir).name
    description = call.text("description")
    digest = store.blobs.put(ir)
    with store.database.write() as connection:
        pipeline = _insert(connection, store, name, description)
        _insert_version(connection, store, pipeline, name, description, digest)
    return show(pipeline)


def upload_version(store: Store, call: Call) -> dict[str, Any]:
    """Keep an uploaded file as another version of a pipeline."""
    if not call.text("pipelineid"):
        raise InvalidInput("The upload names no pipeline.", hint="Name one by its id, or by a name that there is.")
    ir = _read_upload(call)
    digest = store.blobs.put(ir)
    with store.database.write() as connection:
        pipeline = find(connection, call.text("pipelineid"))
        name = call.text("display_name") or call.text("name") or new_id(store.clock)
        version = _insert_version(connection, store, pipeline, name, call.text("description"), digest)
    return show_version(store, version)


def create(store: Store, call: Call) -> dict[str, Any]:
    """Make a pipeline without a version."""
    document = call.document()
    name = text_field(document, "display_name") or text_field(document, "name")
    with store.database.write() as connection:
        return show(_insert(connection, store, name, text_field(document, "description")))


def refuse_address(_store: Store, call: Call) -> dict[str, Any]:
    """Refuse to make a version of a file elsewhere: the server fetches nothing for its clients."""
    document = call.document()
    version = object_field(document, "pipeline_version") or document
    address = text_field(object_field(version, "package_url"), "pipeline_url")
    raise InvalidInput(
        f"The server does not fetch {address or 'a pipeline'} for its clients.",
        hint="Upload the file: Client.upload_pipeline or Client.upload_pipeline_version.",
    )


def list_(store: Store, call: Call) -> dict[str, Any]:
    """List pipelines."""
    with store.database.read() as connection:
        found = [Pipeline(**row) for row in connection.execute(sa.select(kfp_pipeline)).mappings()]
    page = select_page(PIPELINES, call, found)
    answer = {"pipelines": [show(item) for item in page.items], "next_page_token": page.next_token}
    return {**without_empty(answer), "total_size": page.total}


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


def rename(store: Store, call: Call) -> dict[str, Any]:
    """Give a pipeline another name."""
    name = _new_name(call)
    with store.database.write() as connection:
        found = find(connection, call.path["id"])
        if name and name != found.name:
            _require_free(connection, name)
            connection.execute(sa.update(kfp_pipeline).where(kfp_pipeline.c.id == found.id).values(name=name))
        return show(find(connection, found.id))


def delete(store: Store, call: Call) -> dict[str, Any]:
    """Forget a pipeline, with its versions only when asked for; runs of them stay."""
    id, with_versions = call.path["id"], call.text("cascade").lower() in ("true", "1")
    with store.database.write() as connection:
        found = find(connection, id)
        count = len(_versions(connection, id))
        if count and not with_versions:
            raise InvalidInput(
                f"The pipeline {found.name!r} still has {count} version{'s' if count > 1 else ''}.",
                hint="Delete them first: Client.delete_pipeline_version; or send cascade=true.",
            )
        connection.execute(sa.delete(kfp_pipeline_version).where(kfp_pipeline_version.c.pipeline_id == id))
        connection.execute(sa.delete(kfp_pipeline).where(kfp_pipeline.c.id == id))
    return {}


def list_versions(store: Store, call: Call) -> dict[str, Any]:
    """List the versions of a pipeline."""
    with store.database.read() as connection:
        find(connection, call.path["id"])
        found = _versions(connection, call.path["id"])
    page = select_page(VERSIONS, call, found)
    shown = [show_version(store, item) for item in page.items]
    return {
        **without_empty({"pipeline_versions": shown, "next_page_token": page.next_token}), "total_size": page.total
    }  # fmt: skip


def rename_version(store: Store, call: Call) -> dict[str, Any]:
    """Give a version another name."""
    name = _new_name(call)
    with store.database.write() as connection:
        version = find_version(connection, call.path["id"], call.path["version"])
        if name and name != version.name:
            _require_free_version(connection, find(connection, version.pipeline_id), name)
            place = kfp_pipeline_version.c.id == version.id
            connection.execute(sa.update(kfp_pipeline_version).where(place).values(name=name))
        return show_version(store, find_version(connection, version.pipeline_id, version.id))


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
    """Return a version of a pipeline, the newest when none is named; raise `NotFound`.

    The pipeline may be left out when the version is named.
    """
    pipeline_id = pipeline_id or _pipeline_of(connection, version_id)
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
    split_documents(ir)  # before anything walks through it: aliases can make a small file endless
    read_compiled(ir)
    return ir


def _new_name(call: Call) -> str:
    document = call.document()
    if document.get("tags"):
        raise InvalidInput("Pipelines have no tags here.", hint="Send display_name alone.")
    return text_field(document, "display_name", _LONGEST_NAME)


def _versions(connection: sa.Connection, pipeline_id: str) -> list[Version]:
    columns = kfp_pipeline_version.c
    query = sa.select(kfp_pipeline_version).where(columns.pipeline_id == pipeline_id)
    rows = connection.execute(query.order_by(columns.created_at.desc(), columns.id.desc())).mappings()
    return [Version(**row) for row in rows]


def _pipeline_of(connection: sa.Connection, version_id: str) -> str:
    query = sa.select(kfp_pipeline_version.c.pipeline_id).where(kfp_pipeline_version.c.id == version_id)
    found = connection.execute(query).scalar()
    if found is None:
        raise NotFound(f"There is no pipeline version {version_id}.")
    return str(found)


def _require_free(connection: sa.Connection, name: str) -> None:
    taken = connection.execute(sa.select(kfp_pipeline.c.id).where(kfp_pipeline.c.name == name)).scalar()
    if taken is not None:
        raise AlreadyExists(f"There is a pipeline {name!r} already.", hint="Upload a new version of it.")


def _require_free_version(connection: sa.Connection, pipeline: Pipeline, name: str) -> None:
    if any(version.name == name for version in _versions(connection, pipeline.id)):
        raise AlreadyExists(f"The pipeline {pipeline.name!r} has a version {name!r} already.", hint="Use another name.")


def _insert(connection: sa.Connection, store: Store, name: str, description: str) -> Pipeline:
    if not name.strip() or len(name) > _LONGEST_NAME:
        raise InvalidInput(f"A pipeline needs a name of at most {_LONGEST_NAME} characters.")
    _require_free(connection, name)
    made = Pipeline(id=new_id(store.clock), name=name, description=description, created_at=store.clock.now_ms())
    connection.execute(sa.insert(kfp_pipeline).values(**msgspec.to_builtins(made)))
    return made


def _insert_version(
    connection: sa.Connection, store: Store, pipeline: Pipeline, name: str, description: str, digest: str
) -> Version:
    if len(name) > _LONGEST_NAME:
        raise InvalidInput(f"The name of a version has at most {_LONGEST_NAME} characters.")
    _require_free_version(connection, pipeline, name)
    made = Version(
        id=new_id(store.clock), pipeline_id=pipeline.id, name=name, description=description, ir_digest=digest,
        created_at=store.clock.now_ms(),
    )  # fmt: skip
    connection.execute(sa.insert(kfp_pipeline_version).values(**msgspec.to_builtins(made)))
    return made
