"""Tests that may be looked at after every observation: e-processes.

An e-process starts at 1 and, while the null hypothesis holds, exceeds ``1 / alpha`` at any time with
probability at most ``alpha``. So a canary can be judged whenever new evidence arrives, and be stopped at once,
without the false alarms of a repeated z-test. All values here are natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mainspring.core import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_BET = 0.5
PRIOR_EVENTS = 20.0
"""Weight of the prior of `event_log_evidence`, in events."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Where an e-process stands: its log now, the highest log so far, and when it was reached (1 = first row)."""

    n: int
    log_e: float
    peak_log_e: float
    peak_at: int

    def fires(self, alpha: float) -> bool:
        """Tell whether the process has ever exceeded ``1 / alpha``."""
        return self.peak_log_e >= -math.log(alpha)


def bet_on_positive_mean(values: Sequence[float] | npt.NDArray[np.float64], *, bound: float = 1.0) -> Evidence:
    """Gather evidence against "the mean of ``values`` is at most 0" (values in time order, clipped to ±``bound``).

    Betting e-process of Waudby-Smith & Ramdas: ``K_t = prod(1 + l_i x_i)`` with the stake
    ``l_i = clip(mean / (variance + mean²), 0, 1/2)`` of the past only. Exact for any distribution whose
    conditional mean given the past is at most 0. O(n).
    """
    import numpy as np

    clipped = np.clip(np.asarray(values, dtype=np.float64) / bound, -1.0, 1.0)
    if clipped.ndim != 1 or not np.isfinite(np.asarray(values, dtype=np.float64)).all():
        raise InvalidInput("Evidence must be one row of finite numbers.")
    if clipped.size == 0:
        return Evidence(n=0, log_e=0.0, peak_log_e=0.0, peak_at=0)
    path = np.cumsum(np.log1p(_stakes(clipped) * clipped))
    top = int(np.argmax(path))
    peak = max(0.0, float(path[top]))
    return Evidence(n=clipped.size, log_e=float(path[-1]), peak_log_e=peak, peak_at=top + 1 if peak > 0.0 else 0)


def _stakes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # mean / (variance + mean²) = mean / second moment; one pseudo-observation of 1 in the second moment
    # keeps the first stakes small.
    import numpy as np

    seen = np.arange(values.size, dtype=np.float64)
    total = np.concatenate(([0.0], np.cumsum(values)[:-1]))
    squares = np.concatenate(([0.0], np.cumsum(values * values)[:-1]))
    mean = total / (seen + 1.0)
    second = (squares + 1.0) / (seen + 1.0)
    return np.clip(mean / second, 0.0, MAX_BET)


def event_log_evidence(canary_events: int, other_events: int, canary_share: float) -> float:
    """Return the log evidence against "an event falls into the canary with at most its share of the traffic".

    Beta-binomial e-process for counts (Lindon & Malek 2022), one-sided: valid whatever the rate of events is, as
    long as requests are split at random with ``canary_share`` in (0, 1). 0 means no evidence.
    """
    if canary_events < 0 or other_events < 0 or not 0.0 < canary_share < 1.0:
        raise InvalidInput(
            f"Counts {canary_events} and {other_events} with a canary share of {canary_share} make no sense.",
            hint="Counts are 0 or more, the share lies between 0 and 1.",
        )
    a, b = PRIOR_EVENTS * canary_share, PRIOR_EVENTS * (1.0 - canary_share)
    after_a, after_b = a + canary_events, b + other_events
    log_ratio = (
        _log_beta(after_a, after_b)
        - _log_beta(a, b)
        - canary_events * math.log(canary_share)
        - other_events * math.log1p(-canary_share)
    )
    return log_ratio + _log_upper_tail(after_a, after_b, canary_share) - _log_upper_tail(a, b, canary_share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_upper_tail(a: float, b: float, x: float) -> float:
    """Return log P(Beta(a, b) > x), also where the probability itself underflows."""
    front = a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)
    if x > (a + 1.0) / (a + b + 2.0):
        return front - math.log(b) + math.log(_beta_fraction(b, a, 1.0 - x))
    lower = math.exp(front - math.log(a)) * _beta_fraction(a, b, x)
    return math.log1p(-min(lower, 1.0 - 1e-16))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function by Lentz's method (DLMF 8.17.22)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0) or tiny)
    result = d
    for m in range(1, 10_000):
        for coefficient in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1.0 + coefficient * d or tiny)
            c = 1.0 + coefficient / c or tiny
            result *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return result
