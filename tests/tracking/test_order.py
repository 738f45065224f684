"""Searches in the order of a metric: every page is right, with NaN before missing at the end, whatever else orders."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring import tracking
from mainspring.core import FixedClock
from mainspring.db import Database
from mainspring.tracking import Metric, Param

RUN = st.tuples(st.sampled_from([None, math.nan, -1.0, 0.0, 0.0, 2.5]), st.sampled_from(["a", "b"]), st.integers(0, 3))


def make_runs(database: Database, clock: FixedClock, experiment: str, runs) -> dict[str, tuple]:
    made = {}
    with database.write_session() as session:
        for value, param, start in runs:
            run = tracking.create_run(session, clock, experiment, start_time=start)
            metrics = [] if value is None else [Metric(key="loss", value=value, timestamp=1)]
            noise = Metric(key="other", value=float(len(made)), timestamp=1)
            tracking.log_batch(session, run.id, metrics=[*metrics, noise], params=[Param("p", param)])
            made[run.id] = (value, param, start)
    return made


def place(value: float | None, ascends: bool) -> tuple[int, float]:
    if value is None or math.isnan(value):
        return (1 if value is not None else 2), 0.0
    return 0, value if ascends else -value


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(RUN, max_size=9), ascends=st.booleans(), size=st.integers(1, 4), then_param=st.booleans(),
    filtered=st.booleans(),
)  # fmt: skip
def test_pages_in_the_order_of_a_metric_are_those_of_a_plain_sort(
    database: Database, clock: FixedClock, runs, ascends: bool, size: int, then_param: bool, filtered: bool
) -> None:
    with database.write() as connection:
        name = f"e{connection.exec_driver_sql('SELECT count(*) FROM experiment').scalar()}"
        experiment = tracking.create_experiment(connection, clock, name)
    made = make_runs(database, clock, experiment, runs)
    order_by = [f"metrics.loss {'ASC' if ascends else 'DESC'}", *(["params.p DESC"] if then_param else [])]
    found, token = [], None
    with database.read() as connection:
        while True:
            page = tracking.search_runs(
                connection, [experiment], order_by=order_by, max_results=size, page_token=token,
                filter="params.p = 'a'" if filtered else "",
            )  # fmt: skip
            found += [run.id for run in page.runs]
            token = page.next_page_token
            if token is None:
                break
    wanted = [id for id in made if not filtered or made[id][1] == "a"]

    def rank(id: str) -> tuple:
        value, param, start = made[id]
        return place(value, ascends), -ord(param) if then_param else 0, -start, id

    assert found == sorted(wanted, key=rank)


def test_the_first_page_by_a_metric_reads_an_index_and_sorts_no_runs(sqlite_database: Database) -> None:
    statement = (
        "SELECT run.number FROM run, metric_latest AS l WHERE run.experiment_id IN (1) AND l.run = run.number "
        "AND l.metric = 1 AND l.is_nan = 0 ORDER BY l.value DESC, run.start_time DESC, run.id LIMIT 100"
    )
    with sqlite_database.session() as session:
        plan = " ".join(str(row[3]) for row in session.rows("EXPLAIN QUERY PLAN " + statement))
    assert "ix_metric_latest_metric_is_nan_value" in plan
