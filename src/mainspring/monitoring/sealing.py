"""Seal finished segments of the logs into Parquet files in the blob store.

The order makes it safe to be killed anywhere: the file is stored and compared record by record with its segments, then
recorded as an artifact, then named in the log's manifest (from then on readers take it instead of its segments), and
only then are the segments deleted. What a crash leaves over is an unnamed blob, or segments that the next pass deletes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from mainspring.core import Corrupt
from mainspring.lineage import Store, find_artifacts, put_artifact
from mainspring.serving import LabelRecord, PredictionRecord
from mainspring.serving.columnar import SEGMENT, Kinds, RecordType, record_table, records_of
from mainspring.serving.log import DAY_MS
from mainspring.serving.reader import BATCH, chunks, read_segment
from mainspring.serving.sealed import Manifest, SealedFile, read_manifest, verified_path, write_manifest
from mainspring.serving.segments import day_end, held, list_segments

SEAL_BYTES = 32 << 20
"""Finished segments are sealed when there is this much of them; a sealed file takes in not much more."""
SEAL_AGE_MS = 28 * DAY_MS
"""Or when the oldest of them ended this long ago."""
ARTIFACT_TYPE = "mainspring.LogFile"
_ASIDE = ".sealing-"
Record: TypeAlias = PredictionRecord | LabelRecord
_KINDS: dict[str, RecordType] = {"predictions": PredictionRecord, "labels": LabelRecord}


class SealingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When segments are sealed."""

    bytes: int = SEAL_BYTES
    age_ms: int = SEAL_AGE_MS


def seal_logs(store: Store, policy: SealingPolicy = SealingPolicy()) -> bool:  # noqa: B008 - frozen
    """Seal what is due in the logs of all endpoints, one file per log; return whether there was anything."""
    folders = sorted((store.settings.home / "endpoints").glob("*"))
    logs = [folder / name for folder in folders for name in _KINDS]
    sealed = [seal_log(store, log) for log in logs if is_due(log, store.clock.now_ms(), policy)]
    return any(file is not None for file in sealed)


def is_due(folder: Path, now_ms: int, policy: SealingPolicy) -> bool:
    """Say whether a log has enough segments, or old ones."""
    segments = list_segments(folder)
    if not segments:
        return False
    if day_end(segments[0]) + policy.age_ms <= now_ms:
        return True
    return sum(_size(path) for path in segments) >= policy.bytes


def seal_log(store: Store, folder: Path, *, limit: int = SEAL_BYTES) -> SealedFile | None:
    """Seal the finished segments of one log, the oldest first, into one file; None if there is none."""
    with _alone(folder) as is_alone, ExitStack() as locks:
        if not is_alone:
            return None
        manifest = read_manifest(folder)
        _delete_leftovers(folder, manifest)
        segments = _finished(folder, locks, limit)
        if not segments:
            return None
        kind = _KINDS[folder.name]
        file = _store_file(store, folder, segments, kind, manifest)
        if file is not None:
            _verify(folder, file, segments, kind)
            _record(store, folder, file)
            write_manifest(folder, [*manifest.files, file])
        for path in segments:
            path.unlink()
        return file


def check_log(store: Store, folder: Path) -> int:
    """Hash every sealed file of a log and compare the manifest with what was recorded; return how many there are.

    Raises `Corrupt` for bytes that changed, a manifest that does not hold together, and an entry nobody recorded.
    """
    files = read_manifest(folder).files
    with store.database.read() as connection:
        artifacts = find_artifacts(connection, type=ARTIFACT_TYPE, name=_name_of(folder))
    recorded = {artifact.digest for artifact in artifacts}
    named = {file.digest for file in files}
    for file in files:
        verified_path(folder, file)
    if recorded != named:
        raise Corrupt(
            f"The manifest of {folder} names {len(named)} files, recorded are {len(recorded)}.",
            hint="Restore sealed.json from a backup; what it does not name is not read.",
        )
    for path in list_segments(folder):
        for _ in read_segment(path, _KINDS[folder.name]):
            pass
    return len(files)


def _finished(folder: Path, locks: ExitStack, limit: int) -> list[Path]:
    """Lock and return segments that nobody appends to any more, until there are enough bytes."""
    found: list[Path] = []
    total = 0
    for path in list_segments(folder):
        if total >= limit:
            break
        if locks.enter_context(held(path)):
            found.append(path)
            total += _size(path)
    return found


def _store_file(
    store: Store, folder: Path, segments: Sequence[Path], kind: RecordType, manifest: Manifest
) -> SealedFile | None:
    """Write the records of the segments to a file in the blob store; None if they hold none."""
    aside = folder / f"{_ASIDE}{os.getpid()}"
    try:
        records, start, end = _write(aside, segments, kind)
        if not records:
            return None
        digest = store.blobs.put_file(aside)
    finally:
        aside.unlink(missing_ok=True)
    path = store.blobs.path(digest)
    path.chmod(0o400)  # as private as the segments were
    return SealedFile(
        digest=digest,
        path=os.path.relpath(path, folder),
        bytes=path.stat().st_size,
        records=records,
        start=start,
        end=end,
        segments=[segment.name for segment in segments],
        sealed_at=store.clock.now_ms(),
        previous=manifest.last,
    )


def _write(target: Path, segments: Sequence[Path], kind: RecordType) -> tuple[int, int, int]:
    """Write a Parquet file, a batch of records at a time; return their number, and the interval they were received in.

    The segments are read twice: first to learn the types of the features, then to write them.
    """
    kinds = Kinds()
    times: list[int] = []
    for path in segments:
        for part in chunks(read_segment(path, kind)):
            kinds.see(part)
            times += [record.received_at for record in part]
    schema = kinds.schema(kind)
    with pq.ParquetWriter(target, schema.append(pa.field(SEGMENT, pa.string())), compression="zstd") as writer:
        for path in segments:
            for part in chunks(read_segment(path, kind)):
                table = record_table(part, kind, schema)
                writer.write_table(table.append_column(SEGMENT, pa.array([path.name] * len(part), type=pa.string())))
    return len(times), min(times, default=0), max(times, default=0) + 1


def _verify(folder: Path, file: SealedFile, segments: Sequence[Path], kind: RecordType) -> None:
    """Read the stored file back, hashed, and compare it with the segments record by record."""
    kept = (record for path in segments for record in read_segment(path, kind))
    with pq.ParquetFile(verified_path(folder, file)) as opened:
        stored = (record for batch in opened.iter_batches(BATCH) for record in records_of(batch, kind))
        for one, other in zip_longest(kept, stored):
            if one != other:
                raise Corrupt(
                    f"The sealed file {file.digest} does not hold what its segments hold.",
                    hint="The segments are kept; report this with one of them.",
                )


def _record(store: Store, folder: Path, file: SealedFile) -> None:
    """Record the file as an artifact, once."""
    name = _name_of(folder)
    properties = msgspec.to_builtins(msgspec.structs.replace(file, segments=[]))
    with store.database.write() as connection:
        if find_artifacts(connection, digest=file.digest, type=ARTIFACT_TYPE, name=name):
            return
        put_artifact(
            connection,
            store.clock,
            type=ARTIFACT_TYPE,
            name=name,
            uri=f"blob:{file.digest}",
            digest=file.digest,
            properties={**properties, "count": len(file.segments)},
        )


def _delete_leftovers(folder: Path, manifest: Manifest) -> None:
    """Delete what a crash left: half a file, and segments beside the file they were sealed into."""
    for path in folder.glob(f"{_ASIDE}*"):
        path.unlink()
    sealed = manifest.segments
    for path in list_segments(folder):
        if path.name in sealed:
            path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Hold the folder's sealing lock; say False if somebody else does."""
    descriptor = os.open(folder / "sealing.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _name_of(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
