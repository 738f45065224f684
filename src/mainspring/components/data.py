"""Steps on data: name a snapshot, validate it, split it by time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mainspring.components.artifacts import ArtifactFile
from mainspring.core import InvalidInput
from mainspring.datasets import (
    find_anomalies,
    get_snapshot,
    infer_schema,
    profile_frame,
    scan_snapshot,
    stop_on_errors,
)
from mainspring.pipelines import task_store

if TYPE_CHECKING:
    import polars as pl

DIGEST_KEY = "mainspring_digest"


def use_snapshot(reference: str, data: ArtifactFile) -> None:
    """Let ``data`` stand for the snapshot ``dataset://NAME/sha256:…``; its bytes stay in the store."""
    name, digest = parse_reference(reference)
    with task_store() as store:
        snapshot = get_snapshot(store.database, store.blobs, digest)
    data.metadata[DIGEST_KEY] = snapshot.id
    data.metadata["dataset"] = name
    data.metadata["rows"] = snapshot.rows


def parse_reference(reference: str) -> tuple[str, str]:
    """Split ``dataset://NAME/DIGEST`` into name and digest."""
    name, _, digest = reference.removeprefix("dataset://").partition("/")
    if not reference.startswith("dataset://") or not name or not digest:
        raise InvalidInput(f"{reference!r} is not a dataset snapshot.", hint="Write dataset://NAME/sha256:…")
    return name, digest


def read_dataset(data: ArtifactFile, *, newest_only: bool = False, without_newest: bool = False) -> pl.DataFrame:
    """Read the snapshot ``data`` stands for: all parts, only the newest, or all but the newest."""
    with task_store() as store:
        snapshot = get_snapshot(store.database, store.blobs, str(data.metadata[DIGEST_KEY]))
        parts = slice(-1, None) if newest_only else slice(None, -1) if without_newest else None
        return scan_snapshot(store.blobs, snapshot, parts=parts).collect()


def validate_dataset(
    data: ArtifactFile,
    *,
    profile: ArtifactFile,
    schema: ArtifactFile,
    anomalies: ArtifactFile,
    label: str,
    unbounded: Sequence[str] = (),
) -> None:
    """Profile the snapshot and check its newest part against the schema of all that came before.

    ``label`` need not be there when serving; columns in ``unbounded``, such as times, may grow without limit.
    Raises `Refused`, and so stops the pipeline, on any anomaly of severity ERROR. The first snapshot has
    nothing before it and is checked against itself.
    """
    whole = profile_frame(read_dataset(data))
    newest = read_dataset(data, newest_only=True)
    first = newest.height == whole.rows
    before = whole if first else profile_frame(read_dataset(data, without_newest=True))
    expected = infer_schema(before, label=label, unbounded=unbounded)
    found = find_anomalies(profile_frame(newest), expected)
    Path(profile.path).write_bytes(msgspec.json.encode(whole))
    Path(schema.path).write_bytes(msgspec.json.encode(expected))
    Path(anomalies.path).write_bytes(msgspec.json.encode(found))
    anomalies.metadata["count"] = len(found)
    stop_on_errors(found)


def split_newest(frame: pl.DataFrame, *, time_column: str, days: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into all but the newest ``days`` (training) and the newest ``days`` (test), by event time in ms."""
    import polars as pl

    newest = frame[time_column].max()
    if not isinstance(newest, int):
        raise InvalidInput(f"Column {time_column!r} holds no times in milliseconds.")
    boundary = newest - round(days * 86_400_000)
    return frame.filter(pl.col(time_column) <= boundary), frame.filter(pl.col(time_column) > boundary)
