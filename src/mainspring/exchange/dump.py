"""Write the whole store to a folder: a file of JSON lines per table, the blobs, and the prediction logs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa

from mainspring.blobs import digest_of_file
from mainspring.core import Conflict
from mainspring.db import current_revision
from mainspring.exchange.manifest import (
    FORMAT,
    FileEntry,
    Manifest,
    TableEntry,
    blob_path,
    table_path,
    write_manifest,
)
from mainspring.exchange.records import Progress
from mainspring.exchange.tables import all_tables, read_lines
from mainspring.lineage import Store

HOME_FOLDERS = ("endpoints", "spool")
"""Folders of the home that hold what is recorded nowhere else: prediction logs, labels, and what clients spooled."""
_LIVE_FILES = ("endpoint.json",)


class DumpReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written; ``digest`` is that of the manifest and vouches for everything."""

    rows: int
    blobs: int
    bytes: int
    files: int
    digest: str


def export_store(store: Store, folder: Path, *, progress: Progress) -> DumpReport:
    """Export everything into a new or empty folder. The tables are all of one moment; a server may run meanwhile."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is not empty.", hint="Export into a new folder.")
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # tags, secrets of webhooks and the bytes of data sets are in it
    tables = dict(_write_tables(store, folder, progress))
    blobs = dict(_copy_blobs(store, folder, progress))
    files = list(_copy_files(store, folder))
    manifest = Manifest(
        format=FORMAT, schema=current_revision(store.database) or "", project=store.project.project,
        created_at=store.clock.now_ms(), tables=tables, blobs=blobs, files=files,
    )  # fmt: skip
    digest = write_manifest(folder, manifest)
    rows = sum(entry.rows for entry in tables.values())
    return DumpReport(rows=rows, blobs=len(blobs), bytes=sum(blobs.values()), files=len(files), digest=digest)


def table_entry(connection: sa.Connection, table: sa.Table, path: Path | None = None) -> TableEntry:
    """Return how many rows a table has and the digest of its lines, and write them to ``path`` if one is given."""
    hash, count = hashlib.sha256(), 0
    with (path or Path("/dev/null")).open("wb") as file:
        for line in read_lines(connection, table):
            hash.update(line)
            file.write(line)
            count += 1
    return TableEntry(rows=count, digest="sha256:" + hash.hexdigest())


def _write_tables(store: Store, folder: Path, progress: Progress) -> Iterator[tuple[str, TableEntry]]:
    tables = all_tables()
    with store.database.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.rollback()
            connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901
        for number, table in enumerate(tables):
            progress("tables", number, len(tables))
            yield table.name, table_entry(connection, table, table_path(folder, table.name))
    progress("tables", len(tables), len(tables))


def _copy_blobs(store: Store, folder: Path, progress: Progress) -> Iterator[tuple[str, int]]:
    """Copy every blob, verified: also those that came after the tables were read, which do no harm."""
    digests = list(store.blobs)
    for number, digest in enumerate(digests):
        progress("blobs", number, len(digests))
        store.blobs.copy_to(digest, blob_path(folder, digest))
        yield digest, store.blobs.size(digest)
    progress("blobs", len(digests), len(digests))


def _copy_files(store: Store, folder: Path) -> Iterator[FileEntry]:
    for name in HOME_FOLDERS:
        for path in sorted((store.settings.home / name).rglob("*")):
            if not path.is_file() or path.is_symlink() or path.name in _LIVE_FILES:
                continue
            relative = path.relative_to(store.settings.home).as_posix()
            copy = folder / "files" / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            yield FileEntry(path=relative, size=copy.stat().st_size, digest=digest_of_file(copy))
