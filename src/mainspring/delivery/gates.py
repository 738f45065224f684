"""May this candidate go further? A pure judgement on two evaluations of the same newest labelled rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from mainspring.core import InvalidInput

MIN_SLICE_ROWS = 200
MAX_SLICE_LOSS = 0.02
"""A slice may get this much worse (nats per row) before the gate looks at it."""
SLICE_STANDARD_ERRORS = 3.0
"""… and is held against the candidate only if that is this many standard errors: many slices are looked at."""


class SliceEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The log loss on the rows of one slice, such as ``origin=JFK``."""

    name: str
    rows: int
    log_loss: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How a model did on a set of labelled rows; ``losses`` are the log losses row by row, in the rows' order.

    Of a regression they are squared errors; ``loss_name`` says so in the words of a verdict.
    """

    rows: int
    log_loss: float
    loss_name: str = "log loss"
    auc: float | None = None
    base_rate: float
    losses: list[float] = []
    slices: list[SliceEvaluation] = []


class GateCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One question the gate asked: ``value`` had to be at least (or at most) ``threshold``; ``detail`` in words."""

    name: str
    passed: bool
    value: float
    threshold: float
    detail: str


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a candidate passed, why in one sentence, and every check behind it."""

    passed: bool
    reason: str
    checks: list[GateCheck]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The mean of paired differences, with its standard error and the deviation of one pair."""

    mean: float
    standard_error: float
    deviation: float


def judge_gate(
    candidate: Evaluation,
    champion: Evaluation | None,
    *,
    min_gain: float = 0.0,
    max_slice_loss: float = MAX_SLICE_LOSS,
    min_slice_rows: int = MIN_SLICE_ROWS,
) -> GateVerdict:
    """Pass a candidate that beats the champion by more than ``min_gain`` nats per row and hurts no big slice.

    The first model of all has no champion to beat: it must beat the best constant prediction.
    Raise `InvalidInput` if the two evaluations are not of the same rows.
    """
    if candidate.rows == 0:
        raise InvalidInput("The gate has no labelled rows to judge the candidate on.", hint="Wait for labels.")
    if champion is None:
        return _verdict([_check_constant(candidate, min_gain)])
    difference = paired_difference(champion.losses, candidate.losses)
    checks = [_check_gain(candidate, champion, difference, min_gain)]
    before = {slice.name: slice for slice in champion.slices}
    for slice in candidate.slices:
        if slice.rows >= min_slice_rows and slice.name in before:
            checks.append(_check_slice(slice, before[slice.name], difference, max_slice_loss, candidate.loss_name))
    return _verdict(checks)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return the mean of ``first - second`` pair by pair; raise `InvalidInput` if they do not pair up."""
    if len(first) != len(second) or not first:
        raise InvalidInput(
            f"{len(first)} losses cannot be paired with {len(second)}.", hint="Evaluate both models on the same rows."
        )
    pairs = [a - b for a, b in zip(first, second, strict=True)]
    mean = math.fsum(pairs) / len(pairs)
    if not math.isfinite(mean):
        raise InvalidInput("Losses must be finite numbers.", hint="Clip scores before taking their logarithm.")
    variance = math.fsum((pair - mean) ** 2 for pair in pairs) / max(1, len(pairs) - 1)
    deviation = math.sqrt(variance)
    return Difference(mean=mean, standard_error=deviation / math.sqrt(len(pairs)), deviation=deviation)


def constant_log_loss(base_rate: float) -> float:
    """Return the log loss of always predicting the share of positives: the entropy of the labels, in nats."""
    return -math.fsum(share * math.log(share) for share in (base_rate, 1.0 - base_rate) if share > 0.0)


def _check_constant(candidate: Evaluation, min_gain: float) -> GateCheck:
    constant = constant_log_loss(candidate.base_rate)
    gain = constant - candidate.log_loss
    return GateCheck(
        name="better than a constant",
        passed=gain > min_gain,
        value=gain,
        threshold=min_gain,
        detail=f"{candidate.loss_name} {candidate.log_loss:.4f} against {constant:.4f} of the best constant prediction"
        f" on {candidate.rows:,} rows",
    )


def _check_gain(candidate: Evaluation, champion: Evaluation, difference: Difference, min_gain: float) -> GateCheck:
    return GateCheck(
        name="better than the champion",
        passed=difference.mean > min_gain,
        value=difference.mean,
        threshold=min_gain,
        detail=f"{candidate.loss_name} {candidate.log_loss:.4f} against the champion's {champion.log_loss:.4f}"
        f" on {candidate.rows:,} rows (gain {difference.mean:.4f} ± {difference.standard_error:.4f})",
    )


def _check_slice(
    now: SliceEvaluation, before: SliceEvaluation, overall: Difference, max_loss: float, loss_name: str
) -> GateCheck:
    loss = now.log_loss - before.log_loss
    noise = SLICE_STANDARD_ERRORS * overall.deviation / math.sqrt(now.rows)
    limit = max(max_loss, noise)
    return GateCheck(
        name=f"not much worse where {now.name}",
        passed=loss <= limit,
        value=loss,
        threshold=limit,
        detail=f"{loss_name} {now.log_loss:.4f} against {before.log_loss:.4f} on {now.rows:,} rows where {now.name}",
    )


def _verdict(checks: list[GateCheck]) -> GateVerdict:
    failed = [check for check in checks if not check.passed]
    if failed:
        return GateVerdict(passed=False, reason=f"Refused: {failed[0].name} failed, {failed[0].detail}.", checks=checks)
    return GateVerdict(passed=True, reason=f"Passed: {checks[0].name}, {checks[0].detail}.", checks=checks)
