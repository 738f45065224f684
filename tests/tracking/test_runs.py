from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring import tracking
from mainspring.core import FixedClock, InvalidInput, NotFound
from mainspring.db import Database
from mainspring.tracking import DatasetInput, Metric, Param


def metric(key: str, value: float, step: int = 0, timestamp: int = 1) -> Metric:
    return Metric(key=key, value=value, step=step, timestamp=timestamp)


@pytest.fixture
def run_id(database: Database, clock: FixedClock, experiment: str) -> str:
    with database.write() as connection:
        return tracking.create_run(connection, clock, experiment, name="first", tags={"t": "1"}).id


def test_run_knows_its_name_as_tag_and_its_artifact_root(database: Database, run_id: str, experiment: str) -> None:
    with database.read() as connection:
        run = tracking.get_run(connection, run_id)
    assert run.status == "RUNNING"
    assert run.tags == {"t": "1", "mlflow.runName": "first"}
    assert run.artifact_uri == f"mlflow-artifacts:/{experiment}/{run_id}/artifacts"


def test_batch_is_logged_and_read_back(database: Database, run_id: str) -> None:
    with database.write() as connection:
        tracking.log_batch(
            connection, run_id, metrics=[metric("loss", 0.5, 1), metric("loss", 0.4, 2)],
            params=[Param("depth", "3")], tags={"mlflow.runName": "renamed"},
        )  # fmt: skip
        run = tracking.get_run(connection, run_id)
    assert [(found.key, found.value, found.step) for found in run.metrics] == [("loss", 0.4, 2)]
    assert run.params == [Param("depth", "3")]
    assert run.name == "renamed"


def test_latest_value_is_that_of_the_highest_step_whatever_comes_last(database: Database, run_id: str) -> None:
    with database.write() as connection:
        tracking.log_batch(connection, run_id, metrics=[metric("loss", 0.3, step=5)])
        tracking.log_batch(connection, run_id, metrics=[metric("loss", 0.9, step=1, timestamp=99)])
        assert tracking.get_run(connection, run_id).metrics[0].value == 0.3


def test_same_metric_again_changes_nothing_and_another_value_is_kept(database: Database, run_id: str) -> None:
    with database.write() as connection:
        number = tracking.find_run(connection, run_id).number
        for value in (1.0, 1.0, 2.0):
            tracking.log_batch(connection, run_id, metrics=[metric("loss", value)])
        assert [found.value for found in tracking.metric_history(connection, number, "loss")] == [1.0, 2.0]


def test_nan_is_kept_and_infinity_becomes_the_largest_number(database: Database, run_id: str) -> None:
    with database.write() as connection:
        values = {"nan": math.nan, "up": math.inf, "down": -math.inf}
        tracking.log_batch(connection, run_id, metrics=[metric(key, value) for key, value in values.items()])
        found = {metric.key: metric.value for metric in tracking.get_run(connection, run_id).metrics}
    assert math.isnan(found["nan"])
    assert (found["up"], found["down"]) == (1.7976931348623157e308, -1.7976931348623157e308)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    points=st.lists(
        st.tuples(st.integers(-5, 5), st.integers(0, 5), st.floats(-3, 3, allow_nan=False)), min_size=1, max_size=12
    )
)
def test_latest_value_does_not_depend_on_how_points_were_batched(
    database: Database, clock: FixedClock, experiment: str, points: list[tuple[int, int, float]]
) -> None:
    metrics = [metric("m", value + 0.0, step, timestamp) for step, timestamp, value in points]
    with database.write() as connection:
        together = tracking.create_run(connection, clock, experiment).id
        apart = tracking.create_run(connection, clock, experiment).id
        tracking.log_batch(connection, together, metrics=metrics)
        for found in metrics:
            tracking.log_batch(connection, apart, metrics=[found])
        latest = [tracking.get_run(connection, id).metrics[0] for id in (together, apart)]
    best = max(points, key=lambda point: point)
    assert [(found.step, found.timestamp, found.value) for found in latest] == [best, best]


def test_param_may_be_repeated_but_not_changed(database: Database, run_id: str) -> None:
    with database.write() as connection:
        tracking.log_batch(connection, run_id, params=[Param("depth", "3")])
        tracking.log_batch(connection, run_id, params=[Param("depth", "3")])
    with pytest.raises(InvalidInput, match="Changing param values is not allowed"), database.write() as connection:
        tracking.log_batch(connection, run_id, params=[Param("width", "1"), Param("depth", "4")])
    with database.read() as connection:
        assert tracking.get_run(connection, run_id).params == [Param("depth", "3")]


def test_deleted_run_takes_no_more_and_can_be_restored(database: Database, run_id: str) -> None:
    with database.write() as connection:
        tracking.delete_run(connection, run_id)
        with pytest.raises(InvalidInput, match="active"):
            tracking.log_batch(connection, run_id, metrics=[metric("loss", 1.0)])
        tracking.restore_run(connection, run_id)
        tracking.set_tags(connection, run_id, {"a": "b"})
        tracking.delete_tag(connection, run_id, "a")
        with pytest.raises(NotFound, match="No tag"):
            tracking.delete_tag(connection, run_id, "a")


def test_run_ends_with_status_and_time(database: Database, run_id: str) -> None:
    with database.write() as connection:
        run = tracking.update_run(connection, run_id, status="FINISHED", end_time=7, name="second")
        with pytest.raises(InvalidInput, match="status"):
            tracking.update_run(connection, run_id, status="DONE")
    assert (run.status, run.end_time, run.name, run.tags["mlflow.runName"]) == ("FINISHED", 7, "second", "second")


def test_datasets_are_stored_once_and_returned_with_their_tags(database: Database, run_id: str) -> None:
    dataset = DatasetInput(name="flights", digest="abc", source_type="local", source="{}", tags={"context": "train"})
    with database.write() as connection:
        key = tracking.find_run(connection, run_id)
        for _ in range(2):
            tracking.log_datasets(connection, key.number, key.experiment_id, [dataset])
        assert tracking.get_run(connection, run_id).datasets == [dataset]


OVER_LIMITS = [
    ([metric("../up", 1.0)], [], {}),
    ([metric("", 1.0)], [], {}),
    ([metric("a" * 251, 1.0)], [], {}),
    ([], [Param("p", "x" * 6001)], {}),
    ([], [Param("p", "a\0b")], {}),
    ([], [Param("p", "1"), Param("p", "2")], {}),
    ([], [], {"t": "x" * 8001}),
    ([], [], {"/t": "x"}),
]


def test_what_breaks_a_limit_is_refused(database: Database, run_id: str) -> None:
    for metrics, params, tags in OVER_LIMITS:
        with pytest.raises(InvalidInput), database.write() as connection:
            tracking.log_batch(connection, run_id, metrics=metrics, params=params, tags=tags)
    with database.read() as connection:
        run = tracking.get_run(connection, run_id)
    assert (run.metrics, run.params) == ([], [])
