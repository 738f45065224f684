from __future__ import annotations

import pytest

from mainspring import tracking
from mainspring.core import AlreadyExists, Conflict, FixedClock, InvalidInput, NotFound
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
        with pytest.raises(Conflict, match="active"):
            tracking.create_run(connection, clock, id)
        assert tracking.get_run(connection, run.id).lifecycle_stage == "deleted"
        tracking.restore_experiment(connection, clock, id)
        assert tracking.get_run(connection, run.id).lifecycle_stage == "active"


FOREIGN_LOCATIONS = [
    "file:///etc",
    "/etc",
    "http://h/x",
    "mlflow-artifacts:/../x",
    "mlflow-artifacts://h/x",
    "s3://b/x",
]


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
            with pytest.raises(NotFound, match="No Experiment"):
                tracking.get_experiment(connection, id)
