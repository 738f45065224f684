"""Should we retrain now? A pure decision on measured windows, always with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mainspring.core.project import RetrainConfig

if TYPE_CHECKING:
    from mainspring.monitoring import MeasuredWindow

DecisionKind = Literal["schedule", "performance", "none"]


class WindowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy needs to know of a window.

    ``log_loss`` is the loss of the answers as served; ``expected_log_loss`` what the versions that answered had
    scored on their hold-outs when they were trained. Either is None when unknown. ``version`` answered most.
    """

    start: int
    end: int
    rows: int
    labelled: int
    log_loss: float | None
    expected_log_loss: float | None
    version: str


class LastTraining(msgspec.Struct, frozen=True, kw_only=True):
    """The newest training, passed or refused: the end of the data it saw (ms), and its run."""

    until: int
    run_id: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to retrain, on which ground, why in one sentence, and the numbers behind it."""

    fire: bool
    kind: DecisionKind
    reason: str
    evidence: dict[str, Any]


def decide_retraining(
    config: RetrainConfig,
    windows: Sequence[WindowSummary],
    last_training: LastTraining | None,
    *,
    min_label_coverage: float = 0.5,
) -> Decision:
    """Decide after each measured window whether a retraining pays (windows in any order).

    Performance fires when the summed log loss above the hold-out's, since the last training and never below 0
    (CUSUM), reaches ``excess_loss`` nats: the ski-rental rule, with the excess as the rent. The schedule is the
    floor. Nothing fires within the cooldown, or while the newest window has too few labels to be learned from.
    """
    ordered = sorted(windows, key=lambda window: window.end)
    since = [window for window in ordered if last_training is None or window.end > last_training.until]
    judged = [window for window in since if _has_labels(window, min_label_coverage)]
    excess = sum_excess_loss(judged)
    evidence = {
        "windows_since_training": len(since),
        "windows_judged": len(judged),
        "excess_loss": round(excess, 3),
        "excess_loss_limit": config.excess_loss,
        "every_windows": config.every_windows,
        "newest_window_end": since[-1].end if since else None,
    }
    kind, reason = _decide(config, since, excess, min_label_coverage)
    return Decision(fire=kind != "none", kind=kind, reason=reason, evidence=evidence)


def summarise_window(measured: MeasuredWindow, expected_log_loss: Mapping[str, float]) -> WindowSummary:
    """Pick what a policy needs from a measured window; ``expected_log_loss`` is each version's hold-out loss."""
    from mainspring.monitoring import expected_loss  # imports polars, which a decider does not need

    report = measured.report
    return WindowSummary(
        start=measured.start_ms,
        end=measured.end_ms,
        rows=measured.rows,
        labelled=measured.labelled,
        log_loss=report.served.log_loss.value if report.served else None,
        expected_log_loss=expected_loss(report.answered_by, expected_log_loss),
        version=max(report.answered_by, key=lambda version: report.answered_by[version], default=""),
    )


def sum_excess_loss(windows: Sequence[WindowSummary]) -> float:
    """Return the running sum of ``labelled * (log loss - expected)`` over the windows in order, kept at 0 or above."""
    total = 0.0
    for window in windows:
        if window.log_loss is not None and window.expected_log_loss is not None:
            total = max(0.0, total + window.labelled * (window.log_loss - window.expected_log_loss))
    return total


def _decide(
    config: RetrainConfig, since: Sequence[WindowSummary], excess: float, min_coverage: float
) -> tuple[DecisionKind, str]:
    age = len(since)
    if not since:
        return "none", "No window has been measured since the last training."
    newest = since[-1]
    if not _has_labels(newest, min_coverage):
        return "none", (
            f"Too few labels in the newest window: {newest.labelled:,} of {newest.rows:,} rows,"
            f" {min_coverage:.0%} are needed."
        )
    if age < config.cooldown_windows:
        return "none", f"Cooling down: {_windows(age)} since the last training, at least {config.cooldown_windows}."
    if config.excess_loss > 0 and excess >= config.excess_loss:
        return "performance", (
            f"Excess log loss of {excess:.0f} nats in {_windows(age)} since the last training reached the limit of"
            f" {config.excess_loss:g}."
        )
    if config.every_windows > 0 and age >= config.every_windows:
        return "schedule", f"{_windows(age)} since the last training, scheduled every {config.every_windows}."
    return "none", _say_why_not(config, age, excess)


def _say_why_not(config: RetrainConfig, age: int, excess: float) -> str:
    grounds = []
    if config.excess_loss > 0:
        grounds.append(f"excess log loss {excess:.0f} of {config.excess_loss:g} nats")
    if config.every_windows > 0:
        grounds.append(f"{_windows(age)} of {config.every_windows} since the last training")
    return f"Not yet: {', '.join(grounds)}." if grounds else "The policy has no rule that could fire."


def _has_labels(window: WindowSummary, min_coverage: float) -> bool:
    return window.labelled > 0 and window.labelled >= min_coverage * window.rows


def _windows(count: int) -> str:
    return f"{count} window" if count == 1 else f"{count} windows"
