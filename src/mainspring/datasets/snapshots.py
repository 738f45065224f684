"""Datasets and their snapshots: immutable, content addressed, growing part by part.

A snapshot is a manifest (canonical JSON, a blob) that names Parquet parts (blobs too); the manifest's digest is the
snapshot's id. Equal data therefore gives an equal id, and every byte is verified when it is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, Corrupt, InvalidInput, NotFound
from mainspring.datasets.parts import (
    Column,
    Part,
    check_readable_together,
    describe_columns,
    scan_parts,
    write_part,
)
from mainspring.db import Database
from mainspring.db.tables.datasets import dataset_snapshot
from mainspring.lineage import put_artifact, record_event

if TYPE_CHECKING:
    import polars as pl

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MANIFEST_VERSION = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot consists of; its canonical JSON is what the snapshot's id is the digest of."""

    version: int = _MANIFEST_VERSION
    dataset: str
    time_column: str | None
    columns: list[Column]
    """The columns of the newest part; older parts may have had others."""
    parts: list[Part]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one version of a dataset; times are milliseconds since the epoch."""

    id: str
    dataset: str
    parent: str | None
    rows: int
    bytes: int
    parts: int
    time_from: int | None
    time_to: int | None
    created_at: int
    artifact_id: str


def append_snapshot(
    database: Database,
    blobs: LocalBlobs,
    clock: Clock,
    dataset: str,
    frame: pl.DataFrame,
    *,
    time_column: str | None = None,
    parent: Snapshot | None = None,
    cause: str | None = None,
) -> Snapshot:
    """Store a new snapshot: the parts of ``parent``, then the rows of ``frame`` as one new part.

    The same rows on the same parent give the snapshot that exists already, and no second event; so do rows that are
    one of the parent's parts already, so that an arrival interrupted half-way can be taken again. A part may have
    other columns or types than its predecessors: whether that is wrong is for validation to say, which needs to see
    it. Refused is only what could not be read together with the part before it, and nested columns. ``time_column``
    (milliseconds or a datetime) gives each part its time range; without one it is the parent's.
    """
    if not _NAME.fullmatch(dataset):
        raise InvalidInput(f"{dataset[:200]!r} is not a dataset name.", hint="Use letters, digits, '.', '_' and '-'.")
    before = _read_parent(blobs, dataset, parent)
    if before is not None:
        check_readable_together(blobs, before.parts[-1], frame)
        time_column = time_column or before.time_column
    part = write_part(blobs, frame, time_column)
    if parent is not None and before is not None and part in before.parts:
        return parent
    manifest = Manifest(
        dataset=dataset,
        time_column=time_column,
        columns=describe_columns(frame),
        parts=[*(before.parts if before else ()), part],
    )
    id = blobs.put(msgspec.json.encode(manifest))
    try:
        with database.write() as connection:
            found = _find_snapshot(connection, id)
            return found or _insert_snapshot(connection, clock, id, manifest, parent=parent, cause=cause)
    except IntegrityError:  # somebody else stored the same snapshot at the same moment
        return get_snapshot(database, blobs, id)


def get_snapshot(database: Database, blobs: LocalBlobs, id: str) -> Snapshot:
    """Return a snapshot whose manifest is in the store and intact; raise `NotFound` or `Corrupt`."""
    with database.read() as connection:
        found = _find_snapshot(connection, id)
    if found is None:
        raise NotFound(f"There is no snapshot {id}.")
    read_manifest(blobs, id)
    return found


def latest_snapshot(connection: sa.Connection, dataset: str) -> Snapshot | None:
    """Return the snapshot of a dataset that was stored last, or None."""
    found = _select_snapshots(connection, dataset, limit=1)
    return found[0] if found else None


def list_snapshots(connection: sa.Connection, dataset: str | None = None) -> list[Snapshot]:
    """Return the snapshots of a dataset, or of all of them, newest first."""
    return _select_snapshots(connection, dataset, limit=None)


def read_manifest(blobs: LocalBlobs, snapshot_id: str) -> Manifest:
    """Return what a snapshot consists of; raise `NotFound` or `Corrupt`."""
    try:
        return msgspec.json.decode(blobs.read(snapshot_id), type=Manifest)
    except msgspec.DecodeError as error:
        raise Corrupt(f"The blob {snapshot_id} is not the manifest of a snapshot: {error}.") from error


def scan_snapshot(blobs: LocalBlobs, snapshot: Snapshot | str, *, parts: slice | None = None) -> pl.LazyFrame:
    """Return the rows of a snapshot (or of its id), part after part; the bytes of every part are verified first.

    ``parts=slice(-1, None)`` is the newest part alone. A column some parts lack is null there; types that differ
    become their common type.
    """
    manifest = read_manifest(blobs, snapshot if isinstance(snapshot, str) else snapshot.id)
    chosen = manifest.parts[parts] if parts is not None else manifest.parts
    if not chosen:
        raise InvalidInput(f"{parts} leaves none of the {len(manifest.parts)} parts of this snapshot.")
    return scan_parts(blobs, chosen)


def _read_parent(blobs: LocalBlobs, dataset: str, parent: Snapshot | None) -> Manifest | None:
    if parent is None:
        return None
    if parent.dataset != dataset:
        raise InvalidInput(f"A snapshot of {parent.dataset!r} cannot be the parent of one of {dataset!r}.")
    return read_manifest(blobs, parent.id)


def _insert_snapshot(
    connection: sa.Connection,
    clock: Clock,
    id: str,
    manifest: Manifest,
    *,
    parent: Snapshot | None,
    cause: str | None,
) -> Snapshot:
    rows = sum(part.rows for part in manifest.parts)
    artifact_id = put_artifact(
        connection,
        clock,
        type="Dataset",
        name=manifest.dataset,
        uri=f"dataset://{manifest.dataset}/{id}",
        digest=id,
        properties={"rows": rows, "parts": len(manifest.parts)},
    )
    snapshot = Snapshot(
        id=id,
        dataset=manifest.dataset,
        parent=parent.id if parent else None,
        rows=rows,
        bytes=sum(part.bytes for part in manifest.parts),
        parts=len(manifest.parts),
        time_from=min((part.time_from for part in manifest.parts if part.time_from is not None), default=None),
        time_to=max((part.time_to for part in manifest.parts if part.time_to is not None), default=None),
        created_at=clock.now_ms(),
        artifact_id=artifact_id,
    )
    connection.execute(sa.insert(dataset_snapshot).values(**msgspec.structs.asdict(snapshot)))
    record_event(
        connection,
        clock,
        "dataset.snapshot.created",
        source="mainspring/datasets",
        subject=snapshot.dataset,
        data={"snapshot": id, "parent": snapshot.parent, "rows": rows, "new_rows": manifest.parts[-1].rows},
        cause=cause,
    )
    return snapshot


def _find_snapshot(connection: sa.Connection, id: str) -> Snapshot | None:
    row = connection.execute(_query().where(dataset_snapshot.c.id == id)).mappings().first()
    return Snapshot(**row) if row else None


def _select_snapshots(connection: sa.Connection, dataset: str | None, *, limit: int | None) -> list[Snapshot]:
    query = _query().order_by(dataset_snapshot.c.sequence.desc()).limit(limit)
    if dataset is not None:
        query = query.where(dataset_snapshot.c.dataset == dataset)
    return [Snapshot(**row) for row in connection.execute(query).mappings()]


def _query() -> sa.Select[tuple[object, ...]]:
    return sa.select(*(dataset_snapshot.c[name] for name in Snapshot.__struct_fields__))
