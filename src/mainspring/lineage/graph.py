"""Artifacts, executions, and the edges between them: one graph for every room."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mainspring.core import Clock, NotFound, new_id
from mainspring.db import Row, Session, read_json, session_of

if TYPE_CHECKING:
    import sqlalchemy as sa

_PUT_ARTIFACT = "INSERT INTO artifact (id,type,name,uri,digest,created_at,properties) VALUES (?,?,?,?,?,?,?)"
_START = "INSERT INTO execution (id,type,name,state,actor,started_at,properties) VALUES (?,?,?,'RUNNING',?,?,?)"
_PUT_CONTEXT = "INSERT INTO context (id,type,name,created_at,properties) VALUES (?,?,?,?,?)"
_JOIN_CONTEXT = "INSERT INTO context_execution (context_id,execution_id) VALUES (?,?)"
_END = "UPDATE execution SET state=?,ended_at=?,properties=? WHERE id=?"
_PUT_EDGE = "INSERT INTO execution_event (execution_id,artifact_id,kind,path) VALUES (?,?,?,?)"
_ARTIFACTS = "SELECT id,type,name,digest,uri,created_at,properties FROM artifact"
_EXECUTIONS = "SELECT id,type,name,state,actor,started_at,ended_at,properties FROM execution"
_EDGES = (
    "SELECT kind,path,id,type,name,digest,uri,created_at,properties FROM execution_event"
    " JOIN artifact ON id=artifact_id WHERE execution_id=? ORDER BY kind,path"
)
_USERS = f"{_EXECUTIONS} JOIN execution_event ON execution_id=id WHERE artifact_id=? AND kind=? ORDER BY id"
_OF_CONTEXT = "context_id=(SELECT id FROM context WHERE type=? AND name=?)"
_MEMBERS = f"{_EXECUTIONS} JOIN context_execution ON execution_id=id WHERE {_OF_CONTEXT} ORDER BY id"

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


def put_context(connection: sa.Connection | Session, clock: Clock, *, type: str, name: str) -> str:
    """Return the id of the group with this type and name, making it if it is new."""
    session = session_of(connection)
    found = session.row("SELECT id FROM context WHERE type=? AND name=?", (type, name))
    if found is not None:
        return str(found[0])
    id = new_id(clock)
    session.run(_PUT_CONTEXT, (id, type, name, clock.now_ms(), "{}"))
    return id


def get_artifact(connection: sa.Connection | Session, id: str) -> Artifact:
    """Return one artifact; raise `NotFound`."""
    row = session_of(connection).row(f"{_ARTIFACTS} WHERE id=?", (id,))
    if row is None:
        raise NotFound(f"There is no artifact {id}.")
    return _artifact(row)


def get_execution(connection: sa.Connection | Session, id: str) -> Execution:
    """Return one execution; raise `NotFound`."""
    row = session_of(connection).row(f"{_EXECUTIONS} WHERE id=?", (id,))
    if row is None:
        raise NotFound(f"There is no execution {id}.")
    return _execution(row)


def find_artifacts(
    connection: sa.Connection | Session,
    *,
    digest: str | None = None,
    type: str | None = None,
    name: str | None = None,
) -> list[Artifact]:
    """Return the artifacts that match everything given, newest first."""
    given = {"digest": digest, "type": type, "name": name}
    wanted = {column: value for column, value in given.items() if value is not None}
    where = " AND ".join(("1=1", *(f"{column}=?" for column in wanted)))
    statement = f"{_ARTIFACTS} WHERE {where} ORDER BY id DESC"
    return [_artifact(row) for row in session_of(connection).rows(statement, tuple(wanted.values()))]


def edges_of(connection: sa.Connection | Session, execution_id: str) -> list[Edge]:
    """Return what an execution used and produced, inputs first."""
    rows = session_of(connection).rows(_EDGES, (execution_id,))
    return [Edge(kind=row[0], path=row[1], artifact=_artifact(row[2:])) for row in rows]


def executions_of(connection: sa.Connection | Session, artifact_id: str, kind: EventKind) -> list[Execution]:
    """Return the executions that produced (OUTPUT) or used (INPUT) an artifact, oldest first."""
    return [_execution(row) for row in session_of(connection).rows(_USERS, (artifact_id, kind))]


def executions_in(connection: sa.Connection | Session, context_type: str, context_name: str) -> list[Execution]:
    """Return the executions of a group, oldest first."""
    return [_execution(row) for row in session_of(connection).rows(_MEMBERS, (context_type, context_name))]


def _artifact(row: Row) -> Artifact:
    id, type, name, digest, uri, created_at, properties = row
    return Artifact(
        id=id, type=type, name=name, digest=digest, uri=uri, created_at=created_at, properties=read_json(properties)
    )


def _execution(row: Row) -> Execution:
    id, type, name, state, actor, started_at, ended_at, properties = row
    return Execution(
        id=id, type=type, name=name, state=state, actor=actor, started_at=started_at, ended_at=ended_at,
        properties=read_json(properties),
    )  # fmt: skip
