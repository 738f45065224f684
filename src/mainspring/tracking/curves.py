"""Histories of metrics with fewer points: evenly sampled, as MLflow's charts want them, or as bands of low and high."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from mainspring.core import InvalidInput
from mainspring.db import Session, session_of

if TYPE_CHECKING:
    import sqlalchemy as sa

_MINE = "FROM metric_history WHERE run = ? AND metric = (SELECT id FROM metric_name WHERE name = ?)"
_BY_STEP = "ORDER BY step, timestamp, value"


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring points of a history: their steps, and how low and high they reach. NaN is left out."""

    first_step: int
    last_step: int
    low: float
    high: float
    mean: float
    count: int


def metric_bands(connection: sa.Connection | Session, run: int, key: str, *, limit: int = 400) -> list[Band]:
    """Return the history of a metric of a run (by number) as at most ``limit`` bands of equally many points, by step.

    Unlike a sample, bands never hide a peak.
    """
    statement = (
        "SELECT min(step), max(step), min(value), max(value), avg(value), count(*) FROM "  # noqa: S608 - our own words
        f"(SELECT step, value, ntile(?) OVER ({_BY_STEP}) AS band {_MINE} AND value <> ?) AS points "
        "GROUP BY band ORDER BY band"
    )
    rows = session_of(connection).rows(statement, (limit, run, key, math.inf))
    return [
        Band(first_step=first, last_step=last, low=low, high=high, mean=mean, count=count)
        for first, last, low, high, mean, count in rows
    ]


def sample_history(
    session: Session, run: int, key: str, *, limit: int, steps: tuple[int, int] | None = None
) -> list[tuple[int, int, float]]:
    """Return at most ``limit`` points of a history, evenly sampled by step, the first and the last always among them.

    Each is time stamp, step and stored value; ``steps`` are the first and the last step to look at.
    """
    if steps is not None and steps[0] > steps[1]:
        raise InvalidInput(
            f"end_step must be greater than start_step. Found start_step={steps[0]} and end_step={steps[1]}."
        )
    first, last = steps or (-(2**63), 2**63 - 1)
    mine, parameters = f"{_MINE} AND step BETWEEN ? AND ?", (run, key, first, last)
    counted = session.row(f"SELECT count(*) {mine}", parameters)
    places = spread(0 if counted is None else counted[0], limit)
    statement = (
        "SELECT timestamp, step, value FROM (SELECT timestamp, step, value, "  # noqa: S608 - our own words and numbers
        f"row_number() OVER ({_BY_STEP}) - 1 AS place {mine}) AS points "
        f"WHERE place IN ({','.join(map(str, places))}) {_BY_STEP}"
    )
    found: list[tuple[int, int, float]] = session.rows(statement, parameters) if places else []
    return found


def spread(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` places among ``count``, with both ends; of one place, the last.

    They are the first places of as many equal parts (the larger parts first, as SQL's ``ntile`` does), but the very
    last place instead of the last part's first: MLflow's own choice.
    """
    if count <= limit:
        return list(range(count))
    size, larger = divmod(count, limit)
    return [part * size + min(part, larger) for part in range(limit - 1)] + [count - 1]
