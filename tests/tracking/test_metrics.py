"""Rules of metrics: which value is the latest, what counts as the same, and histories with fewer points."""

from __future__ import annotations

import math
from concurrent.futures import Future
from functools import partial
from itertools import pairwise

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring import tracking
from mainspring.core import FixedClock, InvalidInput
from mainspring.db import Database, Job, Writer
from mainspring.tracking import Metric
from mainspring.tracking.curves import spread
from mainspring.tracking.metrics import clamp, latest_of, read_value, stored_value

VALUES = st.one_of(st.floats(-3, 3), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e308]))
POINTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(-2, 2), st.integers(0, 3), VALUES), max_size=14)


def to_metrics(points: list[tuple[str, int, int, float]]) -> list[Metric]:
    return [Metric(key=key, step=step, timestamp=moment, value=value) for key, step, moment, value in points]


def rank(point: tuple[str, int, int, float]) -> tuple[int, int, float]:
    _, step, moment, value = point
    return step, moment, 0.0 if math.isnan(value) else clamp(value)


@given(POINTS)
def test_latest_is_the_highest_by_step_then_time_then_value(points) -> None:
    latest = latest_of(to_metrics(points))
    for key in {point[0] for point in points}:
        assert latest[key].rank == max(rank(point) for point in points if point[0] == key)
    assert set(latest) == {point[0] for point in points}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=POINTS, cuts=st.lists(st.integers(0, 14), max_size=3))
def test_history_is_a_set_in_order_and_latest_is_of_all_however_they_came(
    database: Database, clock: FixedClock, experiment: str, points, cuts
) -> None:
    edges = sorted({0, *(min(cut, len(points)) for cut in cuts), len(points)})
    with database.write_session() as session:
        run = tracking.create_run(session, clock, experiment)
        number = tracking.find_run(session, run.id).number
        for start, stop in pairwise(edges):
            tracking.log_batch(session, run.id, metrics=to_metrics(points[start:stop]))
        found = {metric.key: metric for metric in tracking.get_run(session, run.id).metrics}
        for key in {point[0] for point in points}:
            mine = [point for point in points if point[0] == key]
            distinct = {(moment, step, repr(clamp(value) + 0.0)) for _, step, moment, value in mine}
            history = tracking.metric_history(session, number, key)
            assert sorted((p.timestamp, p.step, repr(p.value)) for p in history) == sorted(distinct)
            assert [(p.timestamp, p.step) for p in history] == sorted((p.timestamp, p.step) for p in history)
            values = {repr(clamp(p[3]) + 0.0) for p in mine if rank(p) == max(rank(point) for point in mine)}
            assert repr(found[key].value) in values


@pytest.mark.parametrize("value", [0.0, -1.5, 1e308, math.nan])
def test_a_stored_value_is_read_back(value: float) -> None:
    assert repr(read_value(stored_value(value))) == repr(value)


def test_names_are_looked_up_again_when_somebody_deleted_them(
    database: Database, clock: FixedClock, experiment: str
) -> None:
    writer = Writer(database)

    def log(run_id: str) -> None:
        done: Future = Future()
        work = partial(tracking.log_batch, id=run_id, metrics=[Metric(key="loss", value=1.0, timestamp=1)])
        writer.submit(Job(work, lambda _, error: done.set_result(error)))
        assert done.result(10) is None

    for _ in range(2):
        with database.write_session() as session:
            run = tracking.create_run(session, clock, experiment)
        log(run.id)
        with database.session() as session:
            assert [found.key for found in tracking.get_run(session, run.id).metrics] == ["loss"]
        with database.write() as connection:
            for table in ("metric_history", "metric_latest", "metric_name"):
                connection.execute(sa.text(f"DELETE FROM {table}"))
            connection.execute(sa.text("INSERT INTO metric_name (name) VALUES ('another')"))
    writer.close()


@given(st.integers(0, 500), st.integers(1, 60))
def test_spread_keeps_both_ends_and_the_limit(count: int, limit: int) -> None:
    places = spread(count, limit)
    assert len(places) == min(count, limit)
    assert places == sorted(set(places))
    assert spread(10, 5) == [0, 2, 4, 6, 9]
    assert spread(20, 3) == [0, 7, 19]
    if count:
        assert places[-1] == count - 1
        assert limit == 1 or places[0] == 0


def test_a_long_history_is_sampled_and_banded(database: Database, clock: FixedClock, experiment: str) -> None:
    with database.write_session() as session:
        run = tracking.create_run(session, clock, experiment)
        number = tracking.find_run(session, run.id).number
        metrics = [Metric(key="m", value=float(step % 10), timestamp=9000 - step, step=step) for step in range(1000)]
        tracking.log_batch(session, run.id, metrics=metrics[:500])
        tracking.log_batch(session, run.id, metrics=metrics[500:])
        tracking.log_batch(session, run.id, metrics=[Metric(key="m", value=math.nan, timestamp=1, step=400)])
        tracking.log_batch(session, run.id, metrics=[Metric(key="m", value=99.0, timestamp=2, step=733)])
        bands = tracking.metric_bands(session, number, "m", limit=50)
        sampled = tracking.sample_history(session, number, "m", limit=11)
        within = tracking.sample_history(session, number, "m", limit=5, steps=(100, 104))
        assert tracking.metric_bands(session, number, "unknown") == []
        assert tracking.sample_history(session, number, "unknown", limit=3) == []
        with pytest.raises(InvalidInput, match="end_step"):
            tracking.sample_history(session, number, "m", limit=3, steps=(2, 1))
    assert len(bands) == 50
    assert sum(band.count for band in bands) == 1001
    assert max(band.high for band in bands) == 99.0
    assert [band.first_step for band in bands] == sorted(band.first_step for band in bands)
    assert len(sampled) == 11
    assert (sampled[0][1], sampled[-1][1]) == (0, 999)
    assert [step for _, step, _ in within] == [100, 101, 102, 103, 104]
