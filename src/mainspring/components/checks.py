"""Look at a table before anything learns from it: its profile, and how it differs from what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.data import DIGEST_KEY
from mainspring.components.tables import read_table
from mainspring.core import Corrupt
from mainspring.datasets import (
    Profile,
    Schema,
    append_snapshot,
    find_anomalies,
    infer_schema,
    latest_snapshot,
    profile_frame,
    stop_on_errors,
)
from mainspring.pipelines import task_store

T = TypeVar("T")


def snapshot_table(data: ArtifactFile, *, dataset: str, snapshot: ArtifactFile, time_column: str = "") -> str:
    """Keep a table as the newest part of a dataset of this project; return ``dataset://NAME/sha256:…``.

    Rows that are a part of the dataset already are not added again.
    """
    frame = read_table(data)
    with task_store() as store:
        with store.database.read() as connection:
            parent = latest_snapshot(connection, dataset)
        kept = append_snapshot(
            store.database, store.blobs, store.clock, dataset, frame, time_column=time_column or None, parent=parent
        )
    snapshot.metadata.update({DIGEST_KEY: kept.id, "dataset": dataset, "rows": kept.rows})
    return f"dataset://{dataset}/{kept.id}"


def profile_table(data: ArtifactFile, *, profile: ArtifactFile) -> Profile:
    """Describe every column of a table: counts, gaps, quantiles, most frequent values."""
    found = profile_frame(read_table(data))
    Path(profile.path).write_bytes(msgspec.json.encode(found))
    profile.metadata.update(rows=found.rows, columns=len(found.columns))
    return found


def validate_table(
    profile: ArtifactFile,
    *,
    schema: ArtifactFile,
    anomalies: ArtifactFile,
    expected: ArtifactFile | None = None,
    label: str = "",
    unbounded: Sequence[str] = (),
    stop: bool = True,
) -> int:
    """Check a profile against the ``expected`` schema or the schema of the ``expected`` profile; return the anomalies.

    Without either it is checked against itself: only a table with no rows, or a column without values, is found then,
    and ``schema`` is what the next one can be checked against. Raises `Refused` on an anomaly of severity ERROR, unless
    ``stop`` is off.
    """
    found_profile = _decode(profile, Profile)
    wanted = _expected(expected if expected is not None else profile, label=label, unbounded=unbounded)
    found = find_anomalies(found_profile, wanted)
    Path(schema.path).write_bytes(wanted.to_json())
    Path(anomalies.path).write_bytes(msgspec.json.encode(found))
    anomalies.metadata.update(count=len(found), errors=sum(anomaly.severity == "ERROR" for anomaly in found))
    if stop:
        stop_on_errors(found)
    return len(found)


def _expected(source: ArtifactFile, *, label: str, unbounded: Sequence[str]) -> Schema:
    """Read a schema, or infer one from a profile."""
    data = Path(source.path).read_bytes()
    if "features" in _decode(source, dict[str, msgspec.Raw]):
        return Schema.from_json(data)
    return infer_schema(_decode(source, Profile), label=label or None, unbounded=unbounded)


def _decode(source: ArtifactFile, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(Path(source.path).read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{source.path} is neither a profile nor a schema: {error}.") from error
