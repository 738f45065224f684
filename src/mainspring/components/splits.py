"""Split: rows for training and rows for testing, the same ones every time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.tables import read_table, require_columns, write_table
from mainspring.core import InvalidInput

if TYPE_CHECKING:
    import polars as pl

Method = Literal["random", "time", "hash"]
METHODS = ("random", "time", "hash")


def split_data(
    data: ArtifactFile,
    *,
    train: ArtifactFile,
    test: ArtifactFile,
    method: str = "random",
    test_fraction: float = 0.2,
    column: str = "",
    seed: int = 0,
) -> None:
    """Write the two parts of `split_rows`."""
    ours, theirs = split_rows(read_table(data), method=method, test_fraction=test_fraction, column=column, seed=seed)
    write_table(train, ours)
    write_table(test, theirs)


def split_rows(
    frame: pl.DataFrame, *, method: str, test_fraction: float = 0.2, column: str = "", seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return training rows and test rows, both in their old order.

    ``random`` draws rows with the seed. ``time`` tests on the newest rows by ``column``; rows of one time stay
    together. ``hash`` decides by the value of ``column`` (a customer, say) alone: the rows of one key stay together, on
    the same side however the table grows.
    """
    if method not in METHODS:
        raise InvalidInput(f"{method[:50]!r} is no way to split.", hint=f"Use {', '.join(METHODS)}.")
    if not 0 < test_fraction < 1:
        raise InvalidInput(f"A test part of {test_fraction} is not a part.", hint="Use more than 0 and less than 1.")
    if method != "random":
        if not column:
            raise InvalidInput(f"To split by {method} needs a column.", hint="Pass column=…")
        require_columns(frame, [column])
    if frame.height < 2:
        raise InvalidInput(f"{frame.height} rows cannot be split in two.", hint="Use more rows.")
    is_test = {"random": _draw, "time": _newest, "hash": _by_key}[method](frame, test_fraction, column, seed)
    if is_test.all() or not is_test.any():
        side = "training" if is_test.all() else "testing"
        raise InvalidInput(
            f"No rows are left for {side}: {frame.height} rows, {test_fraction} for the test.",
            hint="Use more rows, or another fraction.",
        )
    return frame.filter(~is_test), frame.filter(is_test)


def is_test_key(value: object, *, test_fraction: float, seed: int = 0) -> bool:
    """Say on which side a key is: its digest as a number in [0, 1) against the fraction."""
    digest = hashlib.blake2b(f"{seed}\0{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64 < test_fraction


def _draw(frame: pl.DataFrame, fraction: float, column: str, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    order = np.random.default_rng(seed).permutation(frame.height)
    chosen = np.zeros(frame.height, dtype=np.bool_)
    chosen[order[: round(frame.height * fraction)]] = True
    return chosen


def _newest(frame: pl.DataFrame, fraction: float, column: str, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    times = frame[column]
    if times.null_count():
        raise InvalidInput(f"Column {column!r} has {times.null_count()} rows without a time.", hint="Drop them first.")
    boundary = times.sort()[max(0, frame.height - round(frame.height * fraction) - 1)]
    chosen: np.ndarray[tuple[int], np.dtype[np.bool_]] = (times > boundary).to_numpy()
    return chosen


def _by_key(frame: pl.DataFrame, fraction: float, column: str, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    sides = {key: is_test_key(key, test_fraction=fraction, seed=seed) for key in frame[column].unique().to_list()}
    return np.fromiter((sides[key] for key in frame[column].to_list()), dtype=np.bool_, count=frame.height)
