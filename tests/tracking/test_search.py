from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring import tracking
from mainspring.core import FixedClock, InvalidInput
from mainspring.db import Database
from mainspring.tracking import DatasetInput, Metric, Param, parse_filter


@pytest.fixture
def runs(database: Database, clock: FixedClock, experiment: str) -> None:
    """Runs a..d: loss 0.1, 0.2, NaN, none; param depth 1..4; tag Team on a and b; started one ms apart."""
    with database.write() as connection:
        for position, (name, loss) in enumerate({"a": 0.1, "b": 0.2, "c": math.nan, "d": None}.items()):
            clock.advance(1)
            tags = {"Team": "Red_%" if name == "a" else "blue"} if name in "ab" else {}
            run = tracking.create_run(connection, clock, experiment, name=name, tags=tags)
            metrics = [] if loss is None else [Metric(key="loss", value=loss, timestamp=1)]
            tracking.log_batch(connection, run.id, metrics=metrics, params=[Param("depth", str(position + 1))])
            if name == "a":
                key = tracking.find_run(connection, run.id)
                dataset = DatasetInput(
                    name="flights", digest="1", source_type="", source="", tags={"mlflow.data.context": "train"}
                )
                tracking.log_datasets(connection, key.number, key.experiment_id, [dataset])


def names(database: Database, experiment: str, filter: str = "", *order_by: str) -> str:
    with database.read() as connection:
        page = tracking.search_runs(connection, [experiment], filter=filter, order_by=order_by)
    return "".join(run.name for run in page.runs)


FILTERS = [
    ("", "dcba"),
    ("metrics.loss < 0.15", "a"),
    ("metrics.loss >= 0.1 AND params.depth = '2'", "b"),
    ("metric.`loss` != 0.1", "cb"),
    ("params.depth IN ('1')", None),
    ("tags.Team = 'blue'", "b"),
    ("tags.Team != 'blue'", "a"),
    ("tags.Team LIKE 'Red%'", "a"),
    ("tags.Team LIKE 'red%'", ""),
    ("tags.Team ILIKE 'red%'", "a"),
    ("tags.Team LIKE 'Red\\_%'", ""),
    ("tags.Team ILIKE 'blue\\'", ""),
    ('tags."Team" IS NULL', "dc"),
    ("tags.Team IS NOT NULL", "ba"),
    ("attributes.run_name IN ('a', 'd')", "da"),
    ("run_name NOT IN ('a', 'd')", "cb"),
    ("run_name IN ('a',)", "a"),
    ("run_name IN ('a' 'b')", None),
    ("run_name IN (,)", None),
    ("run_name IN ('a',,)", None),
    ("status = 'RUNNING' and attributes.start_time > 1356998400002", "dc"),
    ("datasets.name = 'flights' AND dataset.context = 'train'", "a"),
    ("params.depth = '1'' OR 1=1'", ""),
    ("run_name = 'a' OR run_name = 'b'", None),
    ("run_name = a", None),
    ("metrics.loss < 'x'", None),
    ("metrics.loss", None),
    ("bogus.key = 'x'", None),
    ("attributes.bogus = 'x'", None),
    ("metrics.loss IS NULL", None),
    ("run_name IN ('a'", None),
    ("run_name = 'a' AND", "a"),
    ("run_name = 'a' AND AND run_name != 'b' AND", "a"),
    ("run_name = 'a' run_name != 'b'", None),
    ("AND run_name = 'a'", None),
    ("'; DROP TABLE run; --", None),
]


def test_filter(database: Database, experiment: str, runs: None) -> None:
    for filter, expected in FILTERS:
        if expected is None:
            with pytest.raises(InvalidInput):
                pytest.fail(f"{filter} found {names(database, experiment, filter)}")
        else:
            assert names(database, experiment, filter) == expected, filter


ORDERS = [
    ("metrics.loss DESC", "bacd"),
    ("metrics.loss ASC", "abcd"),
    ("params.depth DESC", "dcba"),
    ("tags.Team", "abdc"),
    ("attributes.start_time ASC", "abcd"),
    ("run_name", "abcd"),
    ("end_time DESC", "dcba"),
]


def test_order_puts_what_is_missing_last(database: Database, experiment: str, runs: None) -> None:
    for order, expected in ORDERS:
        assert names(database, experiment, "", order) == expected, order


@pytest.mark.parametrize(
    "order", ["metrics.loss UP", "metrics.loss DESC NULLS LAST", "metrics.loss, params.depth", "foo", "DESC"]
)
def test_order_that_is_none_is_refused(database: Database, experiment: str, order: str) -> None:
    with pytest.raises(InvalidInput):
        names(database, experiment, "", order)
    assert names(database, experiment, "", "metrics.`a, b` DESC") == ""


def test_experiments_to_search_are_checked(database: Database, experiment: str, runs: None) -> None:
    with database.read() as connection:
        for wrong in ("nope", "1.5", "\u0661"):
            with pytest.raises(InvalidInput, match="valid integer"):
                tracking.search_runs(connection, [experiment, wrong])
        with pytest.raises(InvalidInput, match="40000"):
            tracking.search_runs(connection, [str(number) for number in range(40_000)])
        found = tracking.search_runs(connection, [experiment, experiment, "-1", "9" * 30, "999999"])
    assert len(found.runs) == 4


def test_pages_cover_all_runs_once(database: Database, experiment: str, runs: None) -> None:
    with database.read() as connection:
        token, seen = None, ""
        while True:
            page = tracking.search_runs(connection, [experiment], max_results=3, page_token=token)
            seen += "".join(run.name for run in page.runs)
            token = page.next_page_token
            if token is None:
                break
        with pytest.raises(InvalidInput, match="page token"):
            tracking.search_runs(connection, [experiment], page_token="nonsense")
        with pytest.raises(InvalidInput, match="max_results"):
            tracking.search_runs(connection, [experiment], max_results=50_001)
    assert seen == "dcba"


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_clearly(text: str) -> None:
    with suppress(InvalidInput):
        assert all(found.operator for found in parse_filter(text))


@given(
    key=st.text(st.characters(exclude_characters="`", exclude_categories=("Cs",)), min_size=1, max_size=20),
    value=st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
)
def test_quoted_keys_and_values_survive(key: str, value: str) -> None:
    quoted = value.replace("'", "''")
    (found,) = parse_filter(f"params.`{key}` = '{quoted}'")
    assert (found.kind, found.key, found.value) == ("param", key, value)
