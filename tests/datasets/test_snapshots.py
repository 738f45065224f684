from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mainspring.blobs import LocalBlobs
from mainspring.core import Corrupt, FixedClock, InvalidInput, NotFound
from mainspring.datasets import (
    append_snapshot,
    get_snapshot,
    latest_snapshot,
    list_snapshots,
    read_manifest,
    scan_snapshot,
)
from mainspring.db import Database
from mainspring.lineage import find_artifacts, list_events

WEEK_0 = pl.DataFrame({"at": [10, 20, 30], "carrier": ["UA", None, "AA"], "delay": [1.5, None, -3.0]})
WEEK_1 = pl.DataFrame({"at": [40, 50], "carrier": ["B6", "UA"], "delay": [0.0, 9.0]})


def test_a_snapshot_has_its_parents_rows_and_its_own(database: Database, blobs: LocalBlobs, clock: FixedClock) -> None:
    first = append_snapshot(database, blobs, clock, "flights", WEEK_0, time_column="at")
    clock.advance(1000)
    second = append_snapshot(database, blobs, clock, "flights", WEEK_1, parent=first)

    assert_frame_equal(scan_snapshot(blobs, second).collect(), pl.concat([WEEK_0, WEEK_1]))
    assert_frame_equal(scan_snapshot(blobs, second.id, parts=slice(-1, None)).collect(), WEEK_1)
    assert_frame_equal(scan_snapshot(blobs, first).collect(), WEEK_0)
    assert (second.parent, second.rows, second.parts) == (first.id, 5, 2)
    assert (second.time_from, second.time_to) == (10, 50)
    assert second.created_at == first.created_at + 1000
    assert second.bytes == sum(blobs.size(part.digest) for part in read_manifest(blobs, second.id).parts)
    assert get_snapshot(database, blobs, second.id) == second
    with database.read() as connection:
        assert list_snapshots(connection, "flights") == [second, first]
        assert latest_snapshot(connection, "flights") == second
        assert latest_snapshot(connection, "trains") is None


def test_the_same_rows_are_the_same_snapshot_stored_once(
    database: Database, blobs: LocalBlobs, clock: FixedClock
) -> None:
    first = append_snapshot(database, blobs, clock, "flights", WEEK_0)
    again = append_snapshot(database, blobs, clock, "flights", pl.concat([WEEK_0[:1], WEEK_0[1:]], rechunk=False))
    other_name = append_snapshot(database, blobs, clock, "copies", WEEK_0)
    changed = append_snapshot(database, blobs, clock, "flights", WEEK_0.with_columns(at=pl.col("at") + 1))
    assert again == first
    assert len({first.id, other_name.id, changed.id}) == 3
    assert read_manifest(blobs, other_name.id).parts == read_manifest(blobs, first.id).parts
    with database.read() as connection:
        assert len(list_snapshots(connection)) == 3
        assert len(find_artifacts(connection, digest=first.id)) == 1
        assert len(list_events(connection, types=("dataset.snapshot.created",), subject="flights")) == 2


def test_an_arrival_taken_twice_is_one_part(sqlite_database: Database, blobs: LocalBlobs, clock: FixedClock) -> None:
    first = append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_0)
    second = append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_1, parent=first)
    assert append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_1, parent=second) == second


def test_lineage_and_journal_know_the_snapshot(sqlite_database: Database, blobs: LocalBlobs, clock: FixedClock) -> None:
    snapshot = append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_0, cause="0" * 26)
    with sqlite_database.read() as connection:
        (artifact,) = find_artifacts(connection, type="Dataset", name="flights")
        (event,) = list_events(connection, types=("dataset.snapshot.created",))
    assert (artifact.id, artifact.digest) == (snapshot.artifact_id, snapshot.id)
    assert artifact.uri == f"dataset://flights/{snapshot.id}"
    assert (event.data["snapshot"], event.data["new_rows"], event.cause) == (snapshot.id, 3, "0" * 26)


def test_a_tampered_part_or_manifest_is_refused(
    sqlite_database: Database, blobs: LocalBlobs, clock: FixedClock
) -> None:
    snapshot = append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_0)
    for digest in (read_manifest(blobs, snapshot.id).parts[0].digest, snapshot.id):
        path = blobs.path(digest)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(Corrupt):
            scan_snapshot(blobs, snapshot)
    with pytest.raises(Corrupt):
        get_snapshot(sqlite_database, blobs, snapshot.id)


def test_a_part_with_another_type_or_column_can_still_be_stored_and_seen(
    sqlite_database: Database, blobs: LocalBlobs, clock: FixedClock
) -> None:
    first = append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_0)
    odd = pl.DataFrame({"at": [60], "delay": ["late"], "gate": [7]})
    second = append_snapshot(sqlite_database, blobs, clock, "flights", odd, parent=first)
    assert_frame_equal(scan_snapshot(blobs, second, parts=slice(1, None)).collect(), odd)
    together = scan_snapshot(blobs, second).collect()
    assert together["delay"].to_list()[-1] == "late"
    assert together["gate"].to_list() == [None, None, None, 7]
    assert together["carrier"].to_list() == ["UA", None, "AA", None]


def test_what_could_not_be_read_again_is_refused(
    sqlite_database: Database, blobs: LocalBlobs, clock: FixedClock
) -> None:
    first = append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_0, time_column="at")
    levels = WEEK_1.with_columns(pl.Series("delay", ["low", "high"], dtype=pl.Categorical))
    with pytest.raises(InvalidInput, match="'delay' is Categorical, but Float64 in the parent"):
        append_snapshot(sqlite_database, blobs, clock, "flights", levels, parent=first)
    with pytest.raises(InvalidInput, match="time column 'at' is not in the data"):
        append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_1.drop("at"), parent=first)
    with pytest.raises(InvalidInput, match="parent of one of 'trains'"):
        append_snapshot(sqlite_database, blobs, clock, "trains", WEEK_1, parent=first)
    with pytest.raises(InvalidInput, match="needs rows"):
        append_snapshot(sqlite_database, blobs, clock, "flights", WEEK_1.clear())
    with pytest.raises(InvalidInput, match="nested"):
        append_snapshot(sqlite_database, blobs, clock, "flights", pl.DataFrame({"x": [[1]]}))
    with pytest.raises(InvalidInput, match="not a dataset name"):
        append_snapshot(sqlite_database, blobs, clock, "../flights", WEEK_1)


def test_datetimes_give_a_time_range_in_milliseconds(
    sqlite_database: Database, blobs: LocalBlobs, clock: FixedClock
) -> None:
    frame = pl.DataFrame({"at": [datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)]})
    snapshot = append_snapshot(sqlite_database, blobs, clock, "days", frame, time_column="at")
    assert (snapshot.time_from, snapshot.time_to) == (1_356_998_400_000, 1_357_084_800_000)


def test_an_unknown_snapshot_is_not_found(sqlite_database: Database, blobs: LocalBlobs) -> None:
    with pytest.raises(NotFound, match="no snapshot"):
        get_snapshot(sqlite_database, blobs, "sha256:" + "0" * 64)
