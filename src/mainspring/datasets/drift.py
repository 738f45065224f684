"""Drift: how far a table has moved from a reference, computed from two profiles alone.

These are effect sizes; there are no p-values, because on a large table every difference is significant.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core import InvalidInput
from mainspring.datasets.profiles import CategoricalProfile, NumericProfile, Profile

PSI_BINS = 10
DIVERGENCE_BINS = 30
_PRIOR = 0.5

Counts = NDArray[np.float64]


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How one column has moved; a measure that does not exist for it, or for want of values, is None.

    ``psi`` is the population stability index over the reference's deciles or values, with half a row added to every
    bin; ``ks`` the largest distance of the two distribution functions; ``jensen_shannon`` the divergence to base 2,
    in [0, 1]; ``l_infinity`` the largest difference of a value's share; ``null_delta`` the change of the share of
    nulls; ``new_share`` the share of values that the reference does not list.
    """

    column: str
    psi: float | None
    ks: float | None
    jensen_shannon: float | None
    l_infinity: float | None
    null_delta: float
    new_share: float | None


def measure_drift(reference: Profile, current: Profile) -> list[ColumnDrift]:
    """Measure the columns both profiles have, in the reference's order; columns of another type are left out.

    ``current`` must have been profiled with ``reference`` (`profile_frame`), or `InvalidInput` is raised.
    """
    drifts = []
    for name, before in reference.columns.items():
        now = current.columns.get(name)
        nulls = _share(now.nulls, current.rows) - _share(before.nulls, reference.rows) if now else 0.0
        if isinstance(before, NumericProfile) and isinstance(now, NumericProfile):
            drifts.append(_measure_numbers(name, before, now, nulls))
        elif isinstance(before, CategoricalProfile) and isinstance(now, CategoricalProfile):
            drifts.append(_measure_texts(name, before, now, nulls))
    return drifts


def _measure_numbers(name: str, before: NumericProfile, now: NumericProfile, null_delta: float) -> ColumnDrift:
    if not before.count or not now.count:
        return _unmeasured(name, null_delta)
    if before.knots != now.knots:
        raise InvalidInput(
            f"Column {name!r} was counted at other knots than the reference.",
            hint="Profile the current data with reference=…",
        )
    deciles = _decile_edges(before)
    thirtieths = np.linspace(0, len(before.knots) - 1, min(DIVERGENCE_BINS - 1, len(before.knots)))
    bins = np.unique(np.rint(thirtieths).astype(np.int64))
    return ColumnDrift(
        column=name,
        psi=_stability_index(_bin(before, deciles), _bin(now, deciles)),
        ks=_largest_gap(before, now),
        jensen_shannon=_divergence(_bin(before, bins), _bin(now, bins)),
        l_infinity=None,
        null_delta=null_delta,
        new_share=None,
    )


def _measure_texts(name: str, before: CategoricalProfile, now: CategoricalProfile, null_delta: float) -> ColumnDrift:
    if not before.count or not now.count:
        return _unmeasured(name, null_delta)
    values = sorted(before.values.keys() | now.values.keys())
    all_before = np.array([*(before.values.get(value, 0) for value in values), before.other], dtype=np.float64)
    all_now = np.array([*(now.values.get(value, 0) for value in values), now.other], dtype=np.float64)
    known_now = [now.values.get(value, 0) for value in before.values]
    new = now.count - sum(known_now)
    return ColumnDrift(
        column=name,
        psi=_stability_index(
            np.array([*before.values.values(), before.other], dtype=np.float64),
            np.array([*known_now, new], dtype=np.float64),
        ),
        ks=None,
        jensen_shannon=_divergence(all_before, all_now),
        l_infinity=float(np.abs(all_before / before.count - all_now / now.count).max()),
        null_delta=null_delta,
        new_share=new / now.count,
    )


def _unmeasured(name: str, null_delta: float) -> ColumnDrift:
    return ColumnDrift(
        column=name, psi=None, ks=None, jensen_shannon=None, l_infinity=None, null_delta=null_delta, new_share=None
    )


def _decile_edges(profile: NumericProfile) -> NDArray[np.int64]:
    """Return the distinct places among the knots where the profile's own deciles lie."""
    wanted = np.arange(1, PSI_BINS) / PSI_BINS * profile.count
    places = np.searchsorted(np.array(profile.at_most), wanted, side="left")
    return np.unique(np.minimum(places, len(profile.knots) - 1)).astype(np.int64)


def _bin(profile: NumericProfile, edges: NDArray[np.int64]) -> Counts:
    """Count the values below the lowest knot, then those up to each knot at the places ``edges``, then the rest."""
    up_to = np.array(profile.at_most, dtype=np.float64)[edges]
    return np.diff(np.concatenate([[0.0, profile.less_than[0]], up_to, [profile.count]]))


def _largest_gap(before: NumericProfile, now: NumericProfile) -> float:
    at_most = np.array(before.at_most) / before.count - np.array(now.at_most) / now.count
    less_than = np.array(before.less_than) / before.count - np.array(now.less_than) / now.count
    return float(max(np.abs(at_most).max(), np.abs(less_than).max()))


def _stability_index(before: Counts, now: Counts) -> float:
    p = (before + _PRIOR) / (before.sum() + _PRIOR * before.size)
    q = (now + _PRIOR) / (now.sum() + _PRIOR * now.size)
    return float(np.sum((p - q) * np.log(p / q)))


def _divergence(before: Counts, now: Counts) -> float:
    p, q = before / before.sum(), now / now.sum()
    middle = (p + q) / 2
    return float(np.clip((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2, 0.0, 1.0))


def _relative_entropy(p: Counts, q: Counts) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
