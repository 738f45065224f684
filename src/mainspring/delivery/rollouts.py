"""What a rollout does next: a pure decision on the evidence so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mainspring.core import Conflict
from mainspring.core.project import RolloutConfig
from mainspring.delivery.sequential import Evidence, bet_on_positive_mean, event_log_evidence

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RolloutState = Literal["PENDING", "CANARY", "PROMOTED", "ROLLED_BACK"]
RolloutAction = Literal["continue", "promote", "roll_back"]
ACTIVE_STATES = ("PENDING", "CANARY")
REQUEST_BOUND = 0.2
"""The mean loss difference of a request's rows is clipped here (nats); of a single row at 1.

Two versions of one model differ by hundredths: a wider bound would leave the tests without power.
"""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A gated version on its way to take over an endpoint; ``event`` is the id of its rollout.started."""

    id: str
    endpoint: str
    model: str
    candidate_version: str
    champion_version: str
    state: str
    started_at: int
    ended_at: int | None
    reason: str
    statistics: dict[str, Any]
    cause: str | None
    event: str


class RolloutEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known since the canary started.

    ``losses`` are canary loss minus champion loss of the same labelled row, in the order of the requests;
    ``requests`` numbers the request of each row (0, 0, 1, …): rows of one request share their circumstances, so the
    tests then count requests, not rows. Without it every row counts as independent. The errors count failed answers
    of each; ``windows`` is how many monitor windows have passed.
    """

    losses: Sequence[float] | npt.NDArray[np.float64]
    requests: Sequence[int] | npt.NDArray[np.int64] | None = None
    canary_errors: int = 0
    champion_errors: int = 0
    windows: int = 0


class RolloutStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers a step was decided on; an ``e`` counts as proof when its log reaches ``log_threshold``.

    ``requests`` is the number of observations of the tests; the standard error allows for rows of one request being
    alike.
    """

    rows: int
    requests: int
    mean_difference: float | None
    standard_error: float | None
    better: Evidence
    worse: Evidence
    errors_log_e: float
    log_threshold: float
    canary_errors: int
    champion_errors: int
    windows: int


class RolloutStep(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now, why in one sentence, and the numbers."""

    action: RolloutAction
    reason: str
    statistics: RolloutStatistics


def advance(rollout: Rollout, evidence: RolloutEvidence, config: RolloutConfig) -> RolloutStep:
    """Decide whether the canary goes on, takes over or goes away; raise `Conflict` if the rollout is over.

    Harm is looked at first. Every test may be repeated after each new row: see `mainspring.delivery.sequential`.
    """
    if rollout.state not in ACTIVE_STATES:
        raise Conflict(f"Rollout {rollout.id} is over: {rollout.state}.", hint="Start a new rollout.")
    statistics = gather_statistics(evidence, config)
    action, reason = _decide(statistics, config)
    return RolloutStep(action=action, reason=reason, statistics=statistics)


def gather_statistics(evidence: RolloutEvidence, config: RolloutConfig) -> RolloutStatistics:
    """Turn the evidence into the numbers `advance` decides on."""
    import numpy as np

    losses = np.asarray(evidence.losses, dtype=np.float64)
    rows = int(losses.size)
    mean = float(losses.mean()) if rows else 0.0
    sizes, sums = _sum_by_request(losses, evidence.requests)
    error = float(np.sqrt(((sums - mean * sizes) ** 2).sum())) / rows if sizes.size > 1 else None
    units = sums / sizes
    bound = 1.0 if evidence.requests is None else REQUEST_BOUND
    return RolloutStatistics(
        rows=rows,
        requests=int(units.size),
        mean_difference=mean if rows else None,
        standard_error=error,
        better=bet_on_positive_mean(-units, bound=bound),
        worse=bet_on_positive_mean(units - config.margin, bound=bound),
        errors_log_e=_errors_evidence(evidence, config),
        log_threshold=-math.log(config.alpha),
        canary_errors=evidence.canary_errors,
        champion_errors=evidence.champion_errors,
        windows=evidence.windows,
    )


def _sum_by_request(
    losses: npt.NDArray[np.float64], requests: Sequence[int] | npt.NDArray[np.int64] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the number of rows of every request and the sum of their losses; without requests, of every row."""
    import numpy as np

    if requests is None:
        return np.ones(losses.size), losses
    _, group = np.unique(np.asarray(requests), return_inverse=True)
    return np.bincount(group).astype(np.float64), np.bincount(group, weights=losses).astype(np.float64)


def _errors_evidence(evidence: RolloutEvidence, config: RolloutConfig) -> float:
    if not 0 < config.canary_percent < 100:
        return 0.0
    return event_log_evidence(evidence.canary_errors, evidence.champion_errors, config.canary_percent / 100)


def _decide(now: RolloutStatistics, config: RolloutConfig) -> tuple[RolloutAction, str]:
    seen = _describe(now)
    if now.errors_log_e >= now.log_threshold:
        return "roll_back", (
            f"The canary fails more often: {now.canary_errors} errors against {now.champion_errors} of the champion"
            f" at {config.canary_percent} % of the requests (evidence e = {_e(now.errors_log_e)})."
        )
    if now.worse.fires(config.alpha):
        return "roll_back", (
            f"The canary is worse by more than {config.margin:g}: {seen} (evidence e = {_e(now.worse.peak_log_e)})."
        )
    if now.better.fires(config.alpha):
        return "promote", f"The canary is better: {seen} (evidence e = {_e(now.better.peak_log_e)})."
    if now.mean_difference is not None and now.rows >= config.min_labels and now.mean_difference <= config.margin:
        return "promote", f"No sign of harm, and the difference is within the margin of {config.margin:g}: {seen}."
    if now.windows >= config.max_windows:
        return "roll_back", f"No proof that the canary is as good after {now.windows} windows: {seen}."
    return "continue", f"Not enough evidence yet: {seen}."


def _describe(now: RolloutStatistics) -> str:
    if now.mean_difference is None:
        return "no labelled rows"
    error = "" if now.standard_error is None else f" ± {now.standard_error:.4f}"
    return f"log loss {now.mean_difference:+.4f}{error} against the champion over {now.rows:,} paired rows"


def _e(log_e: float) -> str:
    return f"{math.exp(log_e):,.0f}" if log_e < 16 else f"10^{log_e / math.log(10):.0f}"
