"""Profiles: small statistics of a table, enough to measure drift and to find anomalies without its rows.

A numeric column is described by how many values lie at or below each of a few hundred knots. A profile made with a
reference counts at the reference's knots, so any two profiles with the same reference can be compared and merged
exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core import Conflict, Corrupt, InvalidInput

if TYPE_CHECKING:
    import polars as pl

DataType = Literal["INT", "FLOAT", "BYTES"]
"""TFDV's names of types; truth values and times count as INT."""

EVEN_STEPS = 240
TAIL_KNOTS = 8
TOP_VALUES = 256


class NumericProfile(msgspec.Struct, frozen=True, kw_only=True, tag="numeric", tag_field="kind"):
    """Statistics of a column of numbers; NaN counts as null, infinite values are only counted.

    ``at_most[i]`` and ``less_than[i]`` are the numbers of values ``<= knots[i]`` and ``< knots[i]``. ``sd`` is the
    population's. Without values, ``minimum`` and ``maximum`` are None.
    """

    type: DataType
    count: int
    nulls: int
    infinite: int
    mean: float
    sd: float
    minimum: float | None
    maximum: float | None
    knots: list[float]
    at_most: list[int]
    less_than: list[int]


class CategoricalProfile(msgspec.Struct, frozen=True, kw_only=True, tag="categorical", tag_field="kind"):
    """Statistics of a column of texts: the most frequent values, and how many rows hold any other."""

    count: int
    nulls: int
    values: dict[str, int]
    other: int

    @property
    def type(self) -> DataType:
        """The column's type in TFDV's words."""
        return "BYTES"


ColumnProfile = NumericProfile | CategoricalProfile


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of a table, column by column."""

    rows: int
    columns: dict[str, ColumnProfile]

    def to_json(self) -> bytes:
        """Encode as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Profile:
        """Decode what `to_json` made; raise `Corrupt` if it is something else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise Corrupt(f"This is not a profile: {error}.") from error


def profile_frame(frame: pl.DataFrame, *, reference: Profile | None = None) -> Profile:
    """Describe a table; with a reference, in a form that can be compared and merged with it.

    The knots of a numeric column are values of the column itself: 241 even quantiles, and more of them towards both
    ends. Raises `InvalidInput` for columns that hold neither numbers, times nor texts.
    """
    known = reference.columns if reference else {}
    return Profile(
        rows=frame.height,
        columns={series.name: _profile_series(series, known.get(series.name)) for series in frame.get_columns()},
    )


def merge_profiles(profiles: Sequence[Profile]) -> Profile:
    """Return the profile of all rows together.

    Counts, moments and ranges are exact; they need profiles made with one reference, otherwise this raises
    `Conflict`. Values that are not among the most frequent of a part are counted as others.
    """
    if not profiles:
        raise InvalidInput("There is no profile to merge.")
    merged = profiles[0]
    for profile in profiles[1:]:
        if profile.columns.keys() != merged.columns.keys():
            differ = sorted(profile.columns.keys() ^ merged.columns.keys())
            raise Conflict(f"Profiles with different columns cannot be merged: {', '.join(differ)}.")
        merged = Profile(
            rows=merged.rows + profile.rows,
            columns={
                name: _merge_columns(name, column, profile.columns[name]) for name, column in merged.columns.items()
            },
        )
    return merged


def _profile_series(series: pl.Series, reference: ColumnProfile | None) -> ColumnProfile:
    import polars as pl  # heavy: whoever only reads stored profiles should not pay for it

    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        known = reference if isinstance(reference, CategoricalProfile) else None
        return _profile_texts(series.cast(pl.String), known)
    if series.dtype.is_temporal():
        series = (
            series.cast(pl.Datetime("ms")).dt.timestamp("ms")
            if series.dtype in (pl.Date, pl.Datetime)
            else (series.cast(pl.Int64))
        )
    if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
        raise InvalidInput(f"Column {series.name!r} is {series.dtype}: it can be neither counted nor measured.")
    type: DataType = "INT" if series.dtype.is_integer() or series.dtype == pl.Boolean else "FLOAT"
    knots = reference.knots if isinstance(reference, NumericProfile) else None
    return _profile_numbers(series.cast(pl.Float64).drop_nulls().to_numpy(), series.len(), type, knots)


def _profile_texts(series: pl.Series, reference: CategoricalProfile | None) -> CategoricalProfile:
    counted = series.drop_nulls().value_counts(name="_count")
    counts = dict(zip(counted[series.name].to_list(), counted["_count"].to_list(), strict=True))
    return _limit_values(
        CategoricalProfile(count=series.len() - series.null_count(), nulls=series.null_count(), values=counts, other=0),
        keep=reference.values if reference else {},
    )


def _limit_values(profile: CategoricalProfile, keep: dict[str, int]) -> CategoricalProfile:
    """Keep the most frequent values, and those the reference knows; count the rest as other."""
    ranked = sorted(profile.values.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(ranked[:TOP_VALUES]) | {value: count for value, count in ranked if value in keep}
    return msgspec.structs.replace(profile, values=kept, other=profile.count - sum(kept.values()))


def _profile_numbers(
    present: NDArray[np.float64], rows: int, type: DataType, knots: list[float] | None
) -> NumericProfile:
    finite = np.sort(present[np.isfinite(present)])
    infinite = int(np.isinf(present).sum())
    grid = np.array(knots if knots is not None else _choose_knots(finite), dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, sd = np.nan_to_num([finite.mean(), finite.std()]) if finite.size else (0.0, 0.0)
    return NumericProfile(
        type=type,
        count=finite.size,
        nulls=rows - finite.size - infinite,
        infinite=infinite,
        mean=float(mean),
        sd=float(sd),
        minimum=float(finite[0]) if finite.size else None,
        maximum=float(finite[-1]) if finite.size else None,
        knots=grid.tolist(),
        at_most=np.searchsorted(finite, grid, side="right").tolist(),
        less_than=np.searchsorted(finite, grid, side="left").tolist(),
    )


def _choose_knots(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return distinct values at even quantiles, and at ever halved distances from both ends."""
    if ordered.size == 0:
        return ordered
    tail = 0.5 ** np.arange(1, TAIL_KNOTS + 1) / EVEN_STEPS
    quantiles = np.concatenate([np.linspace(0, 1, EVEN_STEPS + 1), tail, 1 - tail])
    return np.unique(ordered[np.rint(quantiles * (ordered.size - 1)).astype(np.int64)])


def _merge_columns(name: str, one: ColumnProfile, two: ColumnProfile) -> ColumnProfile:
    if isinstance(one, NumericProfile) and isinstance(two, NumericProfile):
        return _merge_numbers(name, one, two)
    if isinstance(one, CategoricalProfile) and isinstance(two, CategoricalProfile):
        return _merge_texts(one, two)
    raise Conflict(f"Column {name!r} holds numbers in one profile and texts in another.")


def _merge_numbers(name: str, one: NumericProfile, two: NumericProfile) -> NumericProfile:
    if one.knots != two.knots:
        raise Conflict(
            f"Column {name!r} was counted at different knots.", hint="Make both profiles with the same reference."
        )
    count = one.count + two.count
    share = two.count / count if count else 0.0
    shift = two.mean - one.mean
    variance = (1 - share) * one.sd**2 + share * two.sd**2 + share * (1 - share) * shift**2
    return NumericProfile(
        type="INT" if one.type == two.type == "INT" else "FLOAT",
        count=count,
        nulls=one.nulls + two.nulls,
        infinite=one.infinite + two.infinite,
        mean=one.mean + share * shift,
        sd=variance**0.5,
        minimum=min((low for low in (one.minimum, two.minimum) if low is not None), default=None),
        maximum=max((high for high in (one.maximum, two.maximum) if high is not None), default=None),
        knots=one.knots,
        at_most=[a + b for a, b in zip(one.at_most, two.at_most, strict=True)],
        less_than=[a + b for a, b in zip(one.less_than, two.less_than, strict=True)],
    )


def _merge_texts(one: CategoricalProfile, two: CategoricalProfile) -> CategoricalProfile:
    values = {value: one.values.get(value, 0) + two.values.get(value, 0) for value in {**one.values, **two.values}}
    return CategoricalProfile(
        count=one.count + two.count, nulls=one.nulls + two.nulls, values=values, other=one.other + two.other
    )
