"""Bring an exported folder back, verified, into an empty store: SQLite or PostgreSQL, whichever it came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import sqlalchemy as sa

from mainspring.core import Conflict, Corrupt
from mainspring.db import current_revision
from mainspring.exchange.dump import table_entry
from mainspring.exchange.manifest import Manifest, blob_path, check_files, read_manifest, table_path
from mainspring.exchange.records import Progress
from mainspring.exchange.tables import all_tables, insert_rows, is_empty
from mainspring.lineage import Store


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was brought in; nothing if the store held it all already."""

    rows: int
    blobs: int
    files: int


def import_store(store: Store, folder: Path, *, digest: str = "", progress: Progress) -> LoadReport:
    """Import an exported folder: bytes first, then all tables in one transaction.

    Raises `Corrupt` if anything in the folder was changed, `Conflict` if the store holds something else already or
    the schema is another one. With ``digest``, the manifest must have it.
    """
    manifest = read_manifest(folder, digest=digest)
    found = current_revision(store.database)
    if manifest.schema != found:
        raise Conflict(
            f"{folder} has the schema {manifest.schema}, the store {found}.",
            hint="Import it with the version of mainspring that exported it, then upgrade.",
        )
    unknown = manifest.tables.keys() - {table.name for table in all_tables()}
    if unknown:
        raise Corrupt(f"{folder} has a table {min(unknown)!r}, which is none.", hint="The export was not made by us.")
    total = len(manifest.tables) + len(manifest.blobs) + len(manifest.files)
    for number, _ in enumerate(check_files(folder, manifest)):
        progress("verified", number + 1, total)
    if _holds(store, manifest):
        return LoadReport(rows=0, blobs=0, files=0)
    blobs = _copy_blobs(store, folder, manifest, progress)
    files = _copy_files(store, folder, manifest)
    with store.database.write() as connection:
        if not is_empty(connection):
            raise _occupied(folder)
        rows = _insert(connection, folder, manifest, progress)
    return LoadReport(rows=rows, blobs=blobs, files=files)


def _holds(store: Store, manifest: Manifest) -> bool:
    """Say whether the store holds exactly what the export does; raise `Conflict` if it holds something else."""
    with store.database.read() as connection:
        if is_empty(connection):
            return False
        if all(table_entry(connection, table) == manifest.tables.get(table.name) for table in all_tables()):
            return True
    raise _occupied(store.settings.home)


def _insert(connection: sa.Connection, folder: Path, manifest: Manifest, progress: Progress) -> int:
    tables, rows = all_tables(), 0
    connection.execute(sa.delete(next(table for table in tables if table.name == "experiment")))
    for number, table in enumerate(tables):
        progress("tables", number, len(tables))
        entry = manifest.tables.get(table.name)
        if entry is None:
            continue
        with table_path(folder, table.name).open("rb") as file:
            inserted = insert_rows(connection, table, iter(file))
        if inserted != entry.rows:
            raise Corrupt(f"Table {table.name} has {inserted} rows and should have {entry.rows}.")
        rows += inserted
    progress("tables", len(tables), len(tables))
    return rows


def _copy_blobs(store: Store, folder: Path, manifest: Manifest, progress: Progress) -> int:
    new = [digest for digest in manifest.blobs if not store.blobs.exists(digest)]
    for number, digest in enumerate(new):
        progress("blobs", number, len(new))
        if store.blobs.put_file(blob_path(folder, digest)) != digest:
            raise Corrupt(f"Blob {digest} changed while it was read.", hint="Import a copy that nobody changes.")
    progress("blobs", len(new), len(new))
    return len(new)


def _copy_files(store: Store, folder: Path, manifest: Manifest) -> int:
    targets = [(store.settings.home / entry.path, entry) for entry in manifest.files]
    for target, _ in targets:
        if target.exists():
            raise Conflict(f"{target} is there already.", hint="Import into a new home: --home FOLDER.")
    for target, entry in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "files" / entry.path, target)
    return len(targets)


def _occupied(place: Path) -> Conflict:
    return Conflict(
        f"The store holds something else than {place}.", hint="Import into a new one: --home or --database."
    )
