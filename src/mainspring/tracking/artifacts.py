"""Artifact files: which bytes are at which path below the proxied root ``mlflow-artifacts:/``.

A path leads to a digest; the bytes are content addressed. Below ``trees/<digest>`` lies every stored tree, read-only:
the files of a model version, which nobody can change once it is registered.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from mainspring.blobs import LocalBlobs, TreeFile, check_relative, put_manifest, read_tree
from mainspring.core import Clock, Conflict, InvalidInput, NotFound, Refused
from mainspring.db.tables.tracking import artifact_file as table
from mainspring.db.tables.tracking import run
from mainspring.tracking.locations import ARTIFACT_SCHEME, proxied_path
from mainspring.tracking.upserts import upsert

TREES = "trees"
MAX_PATH = 1000


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a folder: its name relative to the folder; folders have no size."""

    path: str
    is_folder: bool
    size: int | None = None


def check_path(path: str) -> str:
    """Return a path below the root if it is clean; refuse it otherwise, never repair it."""
    clean = check_relative(path)
    if str(clean) != path or len(path) > MAX_PATH or not path.isprintable() or "\ufffd" in path:
        raise InvalidInput(f"Invalid path: {path[:200]!r}", hint="Use a relative path without '..' or empty parts.")
    return path


def path_of_uri(uri: str) -> str:
    """Return the path below the root that the URI of a proxied artifact names."""
    path = proxied_path(uri)
    if path is None:
        raise InvalidInput(
            f"{uri[:200]!r} is not below {ARTIFACT_SCHEME}.", hint="Only proxied artifacts are supported."
        )
    return check_path(path)


def tree_uri(digest: str) -> str:
    """Return the URI at which the files of a stored tree can be read."""
    return f"{ARTIFACT_SCHEME}{TREES}/{digest.removeprefix('sha256:')}"


def put_file(connection: sa.Connection, clock: Clock, path: str, *, digest: str, size: int) -> None:
    """Record that ``path`` holds these stored bytes now."""
    check_writable(path)
    above = path.split("/")[:-1]
    parents = ["/".join(above[: count + 1]) for count in range(len(above))]
    if parents and connection.execute(sa.select(table.c.path).where(table.c.path.in_(parents))).first():
        raise Conflict(f"A part of the path {path[:200]!r} is a file.", hint="Choose another path.")
    if connection.execute(sa.select(table.c.path).where(_below(path)).limit(1)).first():
        raise Conflict(f"{path[:200]!r} is a folder.", hint="Choose another path.")
    row = {"path": path, "digest": digest, "size": size, "updated_at": clock.now_ms()}
    upsert(connection, table, [row], keys=("path",), update=("digest", "size", "updated_at"))


def check_writable(path: str) -> str:
    """Return the path if a client may write there."""
    if check_path(path).split("/")[0] == TREES:
        raise Refused("The files of registered model versions are immutable.", hint="Register a new version.")
    return path


def get_file(connection: sa.Connection, blobs: LocalBlobs, path: str) -> TreeFile:
    """Return what is at a path; raise `NotFound`."""
    check_path(path)
    if path.startswith(TREES + "/"):
        _, digest, *rest = path.split("/")
        found = next((file for file in _read_tree(blobs, digest) if file.path == "/".join(rest)), None)
        if found is not None:
            return found
    else:
        row = connection.execute(sa.select(table).where(table.c.path == path)).first()
        if row is not None:
            return TreeFile(row.path, row.size, row.digest)
    raise NotFound(f"There is no artifact at {path[:200]!r}.")


def list_tree(connection: sa.Connection, blobs: LocalBlobs, folder: str) -> list[TreeFile]:
    """Return all files below a folder, with paths relative to it; empty if there are none."""
    if folder:
        check_path(folder)
    if folder.startswith(TREES + "/"):
        _, digest, *rest = folder.split("/")
        inside = "".join(part + "/" for part in rest)
        found = [file for file in _read_tree(blobs, digest) if file.path.startswith(inside)]
        return [TreeFile(file.path[len(inside) :], file.size, file.digest) for file in found]
    query = sa.select(table).order_by(table.c.path)
    rows = connection.execute(query.where(_below(folder)) if folder else query)
    start = len(folder) + 1 if folder else 0
    return [TreeFile(row.path[start:], row.size, row.digest) for row in rows]


def list_folder(connection: sa.Connection, blobs: LocalBlobs, folder: str) -> list[FileInfo]:
    """Return the entries directly below a folder, by name."""
    entries: dict[str, FileInfo] = {}
    for file in list_tree(connection, blobs, folder):
        name, slash, _ = file.path.partition("/")
        entries[name] = FileInfo(path=name, is_folder=bool(slash), size=None if slash else file.size)
    return [entries[name] for name in sorted(entries)]


def delete_files(connection: sa.Connection, path: str) -> None:
    """Forget the file at a path, or all files below it."""
    check_writable(path)
    connection.execute(sa.delete(table).where(sa.or_(table.c.path == path, _below(path))))


def snapshot_folder(connection: sa.Connection, blobs: LocalBlobs, folder: str) -> str:
    """Store the manifest of what is below a folder now and return its digest; raise `NotFound` if nothing is."""
    files = list_tree(connection, blobs, folder)
    if not files:
        raise NotFound(f"There are no artifacts below {folder[:200]!r}.", hint="Log the model before registering it.")
    return put_manifest(blobs, files)


def read_run_artifact(connection: sa.Connection, blobs: LocalBlobs, run_id: str, path: str) -> bytes | None:
    """Return the verified bytes of an artifact of a run, or None if the run or the artifact is not there."""
    uri = connection.execute(sa.select(run.c.artifact_uri).where(run.c.id == run_id)).scalar()
    if uri is None:
        return None
    try:
        return blobs.read(get_file(connection, blobs, f"{path_of_uri(uri)}/{path}").digest)
    except NotFound:
        return None


def _below(folder: str) -> sa.ColumnElement[bool]:
    """Match paths below a folder, by range: ``0`` is the character after ``/``."""
    return sa.and_(table.c.path > folder + "/", table.c.path < folder + "0")


def _read_tree(blobs: LocalBlobs, digest: str) -> list[TreeFile]:
    try:
        return read_tree(blobs, "sha256:" + digest)
    except (InvalidInput, NotFound, msgspec.MsgspecError) as error:
        raise NotFound(f"There is no tree {digest[:64]!r}.") from error
