from __future__ import annotations

from pathlib import Path

import pytest

from mainspring import tracking
from mainspring.core import AlreadyExists, FixedClock, InvalidInput, NotFound
from mainspring.db import Database


def test_default_experiment_is_number_zero_and_made_once(database: Database, clock: FixedClock) -> None:
    for _ in range(2):
        with database.write() as connection:
            tracking.ensure_default_experiment(connection, clock)
    with database.read() as connection:
        assert tracking.get_experiment(connection, "0").name == "Default"
        assert len(tracking.search_experiments(connection).experiments) == 1


def test_created_experiment_has_proxied_artifact_location_and_tags(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        tracking.ensure_default_experiment(connection, clock)
        id = tracking.create_experiment(connection, clock, "flights", tags={"team": "ml"})
        found = tracking.get_experiment_by_name(connection, "flights")
    assert id == found.id == "1"
    assert found.artifact_location == "mlflow-artifacts:/1"
    assert found.tags == {"team": "ml"}
    assert found.created_at == clock.now_ms()


def test_name_is_taken_even_by_a_deleted_experiment(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        id = tracking.create_experiment(connection, clock, "flights")
        tracking.delete_experiment(connection, clock, id)
        with pytest.raises(AlreadyExists):
            tracking.create_experiment(connection, clock, "flights")


def test_deleted_experiment_refuses_runs_until_it_is_restored(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        id = tracking.create_experiment(connection, clock, "flights")
        run = tracking.create_run(connection, clock, id)
        tracking.delete_experiment(connection, clock, id)
        with pytest.raises(InvalidInput, match="active"):
            tracking.create_run(connection, clock, id)
        assert tracking.get_run(connection, run.id).lifecycle_stage == "deleted"
        tracking.restore_experiment(connection, clock, id)
        assert tracking.get_run(connection, run.id).lifecycle_stage == "active"


FOREIGN_LOCATIONS = [
    "file:///etc",
    "/etc",
    "http://h/x",
    "mlflow-artifacts:/../x",
    "mlflow-artifacts:/a%252e%252e/..%2fx",
    "http:///#/../../etc",
    "s3://b/x#y",
    "s3://b/x?y",
    "s3:///x",
    "hdfs://h/x",
    "ftp://h/x",
    "http://169.254.169.254/latest",
    "http://[x",
    "runs:/x/y",
    "s3://b/" + "x" * 3000,
]


def test_locations_only_clients_reach_are_kept_as_they_are(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        for number, location in enumerate(("s3://b/x", "gs://b/x", "mlflow-artifacts://h/x", "mlflow-artifacts:/x")):
            id = tracking.create_experiment(connection, clock, f"e{number}", artifact_location=location)
            assert tracking.get_experiment(connection, id).artifact_location == location
        id = tracking.create_experiment(connection, clock, "below", artifact_root="file:///srv/artifacts")
        assert tracking.get_experiment(connection, id).artifact_location == f"file:///srv/artifacts/{id}"


def test_local_locations_need_a_local_root(database: Database, clock: FixedClock, tmp_path: Path) -> None:
    root = tmp_path.as_uri()
    with database.write() as connection:
        for location in ("file:///elsewhere", "/elsewhere"):
            id = tracking.create_experiment(connection, clock, location, artifact_location=location, artifact_root=root)
            assert tracking.get_experiment(connection, id).artifact_location == location
            with pytest.raises(InvalidInput, match="Invalid path"):
                tracking.local_folder(location, root)
        assert tracking.local_folder(f"{root}/1/run", root, "a/b") == tmp_path / "1/run/a/b"
        for path in ("../..", "../../../etc", "/etc"):
            with pytest.raises(InvalidInput):
                tracking.local_folder(f"{root}/1", root, path)


def test_foreign_artifact_location_is_refused(database: Database, clock: FixedClock) -> None:
    for location in FOREIGN_LOCATIONS:
        with pytest.raises(InvalidInput), database.write() as connection:
            pytest.fail(tracking.create_experiment(connection, clock, "flights", artifact_location=location))


def test_search_filters_orders_and_pages(database: Database, clock: FixedClock) -> None:
    with database.write() as connection:
        for name in ("a", "b", "c"):
            clock.advance(1)
            tracking.create_experiment(connection, clock, name, tags={"kind": name})
        first = tracking.search_experiments(connection, max_results=2)
        rest = tracking.search_experiments(connection, max_results=2, page_token=first.next_page_token)
        assert [found.name for found in first.experiments + rest.experiments] == ["c", "b", "a"]
        assert rest.next_page_token is None
        assert [e.name for e in tracking.search_experiments(connection, filter="tags.kind != 'b'").experiments] == [
            "c",
            "a",
        ]
        ordered = tracking.search_experiments(connection, filter="name IN ('a', 'c')", order_by=("name ASC",))
        assert [e.name for e in ordered.experiments] == ["a", "c"]


UNKNOWN_IDS = ["99", "x", "", "-1", "9" * 40]


def test_unknown_experiment_is_not_found(database: Database) -> None:
    with database.read() as connection:
        for id in UNKNOWN_IDS:
            with pytest.raises((NotFound, InvalidInput), match=r"No Experiment|must be a valid integer"):
                tracking.get_experiment(connection, id)
