from __future__ import annotations

import pytest

from mainspring import tracking
from mainspring.blobs import LocalBlobs, read_tree
from mainspring.core import Conflict, Corrupt, FixedClock, InvalidInput, NotFound, Refused
from mainspring.db import Database


def put(database: Database, blobs: LocalBlobs, clock: FixedClock, path: str, data: bytes) -> str:
    digest = blobs.put(data)
    with database.write() as connection:
        tracking.put_file(connection, clock, path, digest=digest, size=len(data))
    return digest


def test_files_are_listed_by_folder(database: Database, blobs: LocalBlobs, clock: FixedClock) -> None:
    for path in ("1/r/artifacts/a.txt", "1/r/artifacts/m/x", "1/r/artifacts/m/sub/y", "1/r/artifacts2/z"):
        put(database, blobs, clock, path, b"data")
    with database.read() as connection:
        listed = tracking.list_folder(connection, blobs, "1/r/artifacts")
        assert [(file.path, file.is_folder, file.size) for file in listed] == [("a.txt", False, 4), ("m", True, None)]
        assert [file.path for file in tracking.list_folder(connection, blobs, "1/r/artifacts/m")] == ["sub", "x"]
        assert tracking.list_folder(connection, blobs, "1/r/artifacts/a.txt") == []
        assert [file.path for file in tracking.list_folder(connection, blobs, "")] == ["1"]


def test_a_file_can_be_replaced_but_is_never_also_a_folder(
    database: Database, blobs: LocalBlobs, clock: FixedClock
) -> None:
    put(database, blobs, clock, "1/a", b"old")
    digest = put(database, blobs, clock, "1/a", b"new")
    with database.read() as connection:
        assert tracking.get_file(connection, blobs, "1/a").digest == digest
    for path in ("1/a/b", "1"):
        with pytest.raises(Conflict):
            put(database, blobs, clock, path, b"x")


def test_snapshot_keeps_what_a_folder_held(database: Database, blobs: LocalBlobs, clock: FixedClock) -> None:
    put(database, blobs, clock, "1/m/MLmodel", b"one")
    put(database, blobs, clock, "1/m/data/x", b"two")
    with database.read() as connection:
        digest = tracking.snapshot_folder(connection, blobs, "1/m")
        with pytest.raises(NotFound):
            tracking.snapshot_folder(connection, blobs, "1/empty")
    put(database, blobs, clock, "1/m/MLmodel", b"changed")
    assert [file.path for file in read_tree(blobs, digest)] == ["MLmodel", "data/x"]
    root = tracking.path_of_uri(tracking.tree_uri(digest))
    with database.read() as connection:
        assert blobs.read(tracking.get_file(connection, blobs, f"{root}/MLmodel").digest) == b"one"
        assert [file.path for file in tracking.list_folder(connection, blobs, root)] == ["MLmodel", "data"]
        assert [file.path for file in tracking.list_folder(connection, blobs, f"{root}/data")] == ["x"]
    with pytest.raises(Refused):
        put(database, blobs, clock, f"{root}/MLmodel", b"evil")


def test_artifact_of_a_run_is_read_verified(
    database: Database, blobs: LocalBlobs, clock: FixedClock, experiment: str
) -> None:
    with database.write() as connection:
        run = tracking.create_run(connection, clock, experiment)
    digest = put(database, blobs, clock, f"{experiment}/{run.id}/artifacts/data/profile", b"{}")
    with database.read() as connection:
        assert tracking.read_run_artifact(connection, blobs, run.id, "data/profile") == b"{}"
        assert tracking.read_run_artifact(connection, blobs, run.id, "data/other") is None
        assert tracking.read_run_artifact(connection, blobs, "nobody", "data/profile") is None
        path = blobs.path(digest)
        path.chmod(0o644)
        path.write_bytes(b"[]")
        with pytest.raises(Corrupt):
            tracking.read_run_artifact(connection, blobs, run.id, "data/profile")


@pytest.mark.parametrize(
    "path", ["../x", "a/../x", "/etc", "a//b", "a/", "a\\b", "a\0b", "C:/x", "a/%2e%2e/b", "x" * 1001, "a\nb", ""]
)
def test_unclean_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        tracking.check_path(path)
