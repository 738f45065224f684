"""Artifacts, executions, and the edges between them: one graph for every room."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock, NotFound, new_id
from mainspring.db import Session, session_of
from mainspring.db.tables import lineage as tables

_PUT_ARTIFACT = "INSERT INTO artifact (id,type,name,uri,digest,created_at,properties) VALUES (?,?,?,?,?,?,?)"
_START = "INSERT INTO execution (id,type,name,state,actor,started_at,properties) VALUES (?,?,?,'RUNNING',?,?,?)"
_JOIN_CONTEXT = "INSERT INTO context_execution (context_id,execution_id) VALUES (?,?)"
_END = "UPDATE execution SET state=?,ended_at=?,properties=? WHERE id=?"
_PUT_EDGE = "INSERT INTO execution_event (execution_id,artifact_id,kind,path) VALUES (?,?,?,?)"
_EXECUTION = "SELECT id,type,name,state,actor,started_at,ended_at,properties FROM execution WHERE id=?"

EventKind = Literal["INPUT", "OUTPUT"]
FINISHED = ("COMPLETE", "CACHED", "FAILED", "CANCELED", "SKIPPED")


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A thing with bytes: a dataset snapshot, a profile, a model, a metrics file."""

    id: str
    type: str
    name: str
    digest: str | None
    uri: str
    created_at: int
    properties: dict[str, Any]


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that ran: a pipeline run, a task, a training run. ``state`` is RUNNING or one of `FINISHED`."""

    id: str
    type: str
    name: str
    state: str
    actor: str
    started_at: int
    ended_at: int | None
    properties: dict[str, Any]


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """An execution used (INPUT) or produced (OUTPUT) an artifact under the name ``path``."""

    kind: str
    path: str
    artifact: Artifact


def put_artifact(
    connection: sa.Connection | Session,
    clock: Clock,
    *,
    type: str,
    name: str,
    uri: str,
    digest: str | None = None,
    properties: dict[str, Any] | None = None,
) -> str:
    """Record an artifact and return its id."""
    id = new_id(clock)
    row = (id, type, name, uri, digest, clock.now_ms(), json.dumps(properties or {}))
    session_of(connection).run(_PUT_ARTIFACT, row)
    return id


def start_execution(
    connection: sa.Connection | Session,
    clock: Clock,
    *,
    type: str,
    name: str,
    actor: str,
    properties: dict[str, Any] | None = None,
    contexts: tuple[str, ...] = (),
) -> str:
    """Record that something began to run, in the given contexts, and return its id."""
    id, session = new_id(clock), session_of(connection)
    session.run(_START, (id, type, name, actor, clock.now_ms(), json.dumps(properties or {})))
    for context_id in contexts:
        session.run(_JOIN_CONTEXT, (context_id, id))
    return id


def end_execution(
    connection: sa.Connection | Session,
    clock: Clock,
    id: str,
    state: str,
    *,
    properties: dict[str, Any] | None = None,
) -> None:
    """Record how an execution ended; ``properties`` are merged into those it has."""
    session = session_of(connection)
    merged = {**get_execution(session, id).properties, **(properties or {})}
    session.run(_END, (state, clock.now_ms(), json.dumps(merged), id))


def add_edge(
    connection: sa.Connection | Session, execution_id: str, artifact_id: str, kind: EventKind, path: str
) -> None:
    """Record that the execution used or produced the artifact under the name ``path``."""
    session_of(connection).run(_PUT_EDGE, (execution_id, artifact_id, kind, path))


def put_context(connection: sa.Connection, clock: Clock, *, type: str, name: str) -> str:
    """Return the id of the group with this type and name, making it if it is new."""
    found = connection.execute(
        sa.select(tables.context.c.id).where(tables.context.c.type == type, tables.context.c.name == name)
    ).scalar()
    if found is not None:
        return str(found)
    id = new_id(clock)
    connection.execute(
        sa.insert(tables.context).values(id=id, type=type, name=name, created_at=clock.now_ms(), properties={})
    )
    return id


def get_artifact(connection: sa.Connection, id: str) -> Artifact:
    """Return one artifact; raise `NotFound`."""
    row = connection.execute(sa.select(tables.artifact).where(tables.artifact.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no artifact {id}.")
    return Artifact(**row)


def get_execution(connection: sa.Connection | Session, id: str) -> Execution:
    """Return one execution; raise `NotFound`."""
    row = session_of(connection).row(_EXECUTION, (id,))
    if row is None:
        raise NotFound(f"There is no execution {id}.")
    properties = json.loads(row[7]) if isinstance(row[7], str) else row[7]
    return Execution(
        id=row[0], type=row[1], name=row[2], state=row[3], actor=row[4], started_at=row[5], ended_at=row[6],
        properties=properties,
    )  # fmt: skip


def find_artifacts(
    connection: sa.Connection, *, digest: str | None = None, type: str | None = None, name: str | None = None
) -> list[Artifact]:
    """Return the artifacts that match everything given, newest first."""
    query = sa.select(tables.artifact).order_by(tables.artifact.c.id.desc())
    for column, value in ((tables.artifact.c.digest, digest), (tables.artifact.c.type, type)):
        if value is not None:
            query = query.where(column == value)
    if name is not None:
        query = query.where(tables.artifact.c.name == name)
    return [Artifact(**row) for row in connection.execute(query).mappings()]


def edges_of(connection: sa.Connection, execution_id: str) -> list[Edge]:
    """Return what an execution used and produced, inputs first."""
    query = (
        sa.select(tables.execution_event.c.kind, tables.execution_event.c.path, tables.artifact)
        .join(tables.artifact, tables.artifact.c.id == tables.execution_event.c.artifact_id)
        .where(tables.execution_event.c.execution_id == execution_id)
        .order_by(tables.execution_event.c.kind, tables.execution_event.c.path)
    )
    return [_edge(dict(row)) for row in connection.execute(query).mappings()]


def executions_of(connection: sa.Connection, artifact_id: str, kind: EventKind) -> list[Execution]:
    """Return the executions that produced (OUTPUT) or used (INPUT) an artifact, oldest first."""
    query = (
        sa.select(tables.execution)
        .join(tables.execution_event, tables.execution_event.c.execution_id == tables.execution.c.id)
        .where(tables.execution_event.c.artifact_id == artifact_id, tables.execution_event.c.kind == kind)
        .order_by(tables.execution.c.id)
    )
    return [Execution(**row) for row in connection.execute(query).mappings()]


def executions_in(connection: sa.Connection, context_type: str, context_name: str) -> list[Execution]:
    """Return the executions of a group, oldest first."""
    query = (
        sa.select(tables.execution)
        .join(tables.context_execution, tables.context_execution.c.execution_id == tables.execution.c.id)
        .join(tables.context, tables.context.c.id == tables.context_execution.c.context_id)
        .where(tables.context.c.type == context_type, tables.context.c.name == context_name)
        .order_by(tables.execution.c.id)
    )
    return [Execution(**row) for row in connection.execute(query).mappings()]


def _edge(row: dict[str, Any]) -> Edge:
    return Edge(kind=row.pop("kind"), path=row.pop("path"), artifact=Artifact(**row))
