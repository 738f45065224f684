"""Replay a year of flights through a running mainspring: the outside world, on a simulated clock.

This module only does what the world would do: let time pass, send requests to the endpoint, report which
flights came late once they have landed, and deliver a file with each finished week. Everything else (snapshots,
monitors, retraining, gates, canaries) is done by the processes of ``mainspring up``, which it merely waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, sleep

import polars as pl

from mainspring.automation.scheduler import read_state
from mainspring.core import SimulatedClock, Unavailable, encode_id
from mainspring.demo.client import EndpointClient
from mainspring.demo.flights import CATEGORICAL, FIRST_WEEK_MS, NUMERIC, WEEK_MS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DELIVERY_DELAY_MS = 12 * HOUR_MS
FIRST_WEEKS = 4
FEATURES = (*CATEGORICAL, *NUMERIC)


@dataclass(slots=True)
class World:
    """Flights in the order they were scheduled, and the ones in the air whose outcome nobody knows yet."""

    flights: pl.DataFrame
    folder: Path
    clock: SimulatedClock
    random: Random
    """Makes the request ids, and with them the traffic split: the same seed gives the same year."""
    waiting: list[tuple[int, str, int]] = field(default_factory=list)

    def deliver_week(self, week: int) -> Path:
        """Put the file of a finished week into the project's incoming folder, whole or not at all."""
        start = FIRST_WEEK_MS + week * WEEK_MS
        rows = self.flights.filter(pl.col("scheduled_departure").is_between(start, start + WEEK_MS, closed="left"))
        path = self.folder / "incoming" / f"week-{week:02d}.parquet"
        aside = path.with_suffix(".part")
        rows.write_parquet(aside)
        aside.replace(path)
        return path

    def count(self, start_ms: int, end_ms: int) -> int:
        """Return how many flights are scheduled in a span of time."""
        return self.flights.filter(pl.col("scheduled_departure").is_between(start_ms, end_ms, closed="left")).height

    def hours(self, start_ms: int, end_ms: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield each hour with the flights scheduled to depart in it."""
        rows = self.flights.filter(pl.col("scheduled_departure").is_between(start_ms, end_ms, closed="left"))
        hour = (pl.col("scheduled_departure") // HOUR_MS * HOUR_MS).alias("hour")
        for part in rows.with_columns(hour).partition_by("hour", maintain_order=True):
            yield int(part["hour"][0]), part

    def serve_hour(self, client: EndpointClient, rows: pl.DataFrame) -> None:
        """Ask the endpoint about the flights of one hour, and remember whose outcome will become known when."""
        id = encode_id(self.clock.now_ms(), self.random.randbytes(10))
        request = client.predict(FEATURES, rows.select(FEATURES).rows(), id=id)
        if request is None:
            return
        for row, (known_at, late) in enumerate(rows.select("arrival_known_at", "late").iter_rows()):
            if known_at is not None and late is not None:
                self.waiting.append((known_at, f"{request}:{row}", late))

    def send_labels(self, client: EndpointClient) -> None:
        """Report every flight that has arrived by now."""
        now = self.clock.now_ms()
        arrived = [entry for entry in self.waiting if entry[0] <= now]
        if arrived:
            client.send_labels([{"id": id, "label": late, "time": known_at} for known_at, id, late in arrived])
            self.waiting = [entry for entry in self.waiting if entry[0] > now]


def replay_week(
    world: World, client: EndpointClient, week: int, *, settle: Callable[[], None], progress: Callable[[int], None]
) -> None:
    """Live through one week: requests by the hour, labels by the day, and last week's file at noon of its first day."""
    start = FIRST_WEEK_MS + week * WEEK_MS
    for day in range(start, start + WEEK_MS, DAY_MS):
        for hour, rows in world.hours(day, day + DAY_MS):
            if day == start and hour >= start + DELIVERY_DELAY_MS:
                close_week(world, client, week - 1, settle=settle)
            world.clock.set_ms(max(hour, world.clock.now_ms()))
            world.serve_hour(client, rows)
            progress(rows.height)
        world.clock.set_ms(day + DAY_MS - 1)
        world.send_labels(client)
        world.clock.set_ms(day + DAY_MS)  # now the loop looks, with the day's labels there
        settle()


def close_week(world: World, client: EndpointClient, week: int, *, settle: Callable[[], None]) -> None:
    """At noon after a week's end: the last labels are in and its file is delivered. Once only."""
    noon = FIRST_WEEK_MS + (week + 1) * WEEK_MS + DELIVERY_DELAY_MS
    if week < FIRST_WEEKS or (world.folder / "incoming" / f"week-{week:02d}.parquet").exists():
        return
    world.clock.set_ms(noon - 1)
    world.send_labels(client)
    world.deliver_week(week)
    world.clock.set_ms(noon)
    settle()


def wait_until_settled(home: Path, clock: SimulatedClock, *, alive: Callable[[], None], seconds: float = 120.0) -> None:
    """Wait until the scheduler has looked at this moment and has nothing left to do."""
    now, deadline, pause = clock.now_ms(), monotonic() + seconds, 0.002
    while monotonic() < deadline:
        state = read_state(home / "scheduler.json")
        if state is not None and state.idle and state.reconciled_at >= now:
            return
        alive()
        sleep(pause)
        pause = min(pause * 1.5, 0.05)
    raise Unavailable(f"The scheduler was still busy after {seconds:.0f} s.", hint=f"See {home / 'logs'}.")
