from __future__ import annotations

import sys
from subprocess import run

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.automation import LastTraining, WindowSummary, decide_retraining, sum_excess_loss
from mainspring.core.project import RetrainConfig

WEEK = 7


def config(**changes: object) -> RetrainConfig:
    return RetrainConfig(monitor="m", pipeline="p", **changes)  # type: ignore[arg-type]


def week(
    number: int, *, excess: float = 0.0, rows: int = 1000, labelled: int = 1000, **changes: object
) -> WindowSummary:
    """A window whose log loss is above the expected one by ``excess`` nats per row."""
    fields: dict[str, object] = {"log_loss": 0.4 + excess, "expected_log_loss": 0.4, "version": "1", **changes}
    return WindowSummary(
        start=number * WEEK, end=(number + 1) * WEEK, rows=rows, labelled=labelled, **fields  # type: ignore[arg-type]
    )  # fmt: skip


def trained(after_week: int) -> LastTraining:
    return LastTraining(until=(after_week + 1) * WEEK)


def test_the_schedule_fires_at_its_age_and_not_before():
    policy = config(every_windows=3)
    weeks = [week(n) for n in range(3)]
    early = decide_retraining(policy, weeks[:2], None)
    assert (early.fire, early.kind) == (False, "none")
    assert early.reason == "Not yet: 2 windows of 3 since the last training."
    due = decide_retraining(policy, weeks, None)
    assert (due.fire, due.kind) == (True, "schedule")
    assert due.reason == "3 windows since the last training, scheduled every 3."


def test_the_age_counts_from_the_data_of_the_last_training():
    weeks = [week(n) for n in range(5)]
    assert not decide_retraining(config(every_windows=3), weeks, trained(2)).fire
    assert decide_retraining(config(every_windows=3), weeks, trained(1)).fire


def test_performance_fires_when_the_summed_excess_reaches_the_limit():
    policy = config(excess_loss=300.0)
    below = decide_retraining(policy, [week(0, excess=0.1), week(1, excess=0.19)], None)
    assert not below.fire
    assert below.reason == "Not yet: excess log loss 290 of 300 nats."
    reached = decide_retraining(policy, [week(0, excess=0.1), week(1, excess=0.2001)], None)
    assert (reached.fire, reached.kind) == (True, "performance")
    assert "300 nats in 2 windows" in reached.reason
    assert reached.evidence["excess_loss"] == pytest.approx(300.1)
    assert reached.evidence["windows_since_training"] == 2


def test_excess_before_the_last_training_is_forgotten():
    weeks = [week(0, excess=5.0), week(1, excess=0.1)]
    assert not decide_retraining(config(excess_loss=300.0), weeks, trained(0)).fire


def test_performance_comes_before_the_schedule():
    decision = decide_retraining(config(excess_loss=1.0, every_windows=1), [week(0, excess=0.1)], None)
    assert decision.kind == "performance"


def test_good_weeks_are_not_saved_up():
    weeks = [week(0, excess=-5.0), week(1, excess=0.4)]
    assert sum_excess_loss(weeks) == pytest.approx(400)
    assert decide_retraining(config(excess_loss=300.0), weeks, None).fire


def test_the_order_in_which_windows_are_given_does_not_matter():
    weeks = [week(0, excess=-5.0), week(1, excess=0.4), week(2, excess=-0.2)]
    policy = config(excess_loss=300.0)
    assert decide_retraining(policy, weeks[::-1], None) == decide_retraining(policy, weeks, None)


def test_nothing_fires_within_the_cooldown():
    policy = config(excess_loss=1.0, every_windows=1, cooldown_windows=2)
    decision = decide_retraining(policy, [week(0), week(1, excess=1.0)], trained(0))
    assert not decision.fire
    assert decision.reason == "Cooling down: 1 window since the last training, at least 2."
    assert decide_retraining(policy, [week(0), week(1, excess=1.0), week(2)], trained(0)).fire


def test_too_few_labels_in_the_newest_window_hold_everything_back():
    policy = config(excess_loss=1.0, every_windows=1)
    decision = decide_retraining(policy, [week(0, excess=1.0), week(1, labelled=499)], None)
    assert not decision.fire
    assert decision.reason == "Too few labels in the newest window: 499 of 1,000 rows, 50% are needed."
    assert decide_retraining(policy, [week(0), week(1, labelled=499)], None, min_label_coverage=0.4).fire


def test_an_older_window_with_too_few_labels_is_not_judged_but_still_ages():
    weeks = [week(0, excess=9.0, labelled=100), week(1)]
    decision = decide_retraining(config(excess_loss=300.0), weeks, None)
    assert not decision.fire
    assert (decision.evidence["windows_judged"], decision.evidence["windows_since_training"]) == (1, 2)
    assert decide_retraining(config(every_windows=2), weeks, None).fire


def test_a_window_without_traffic_fires_nothing():
    empty = week(0, rows=0, labelled=0, log_loss=None)
    assert not decide_retraining(config(every_windows=1), [empty], None).fire


def test_an_unknown_loss_is_no_excess():
    weeks = [week(0, excess=5.0, expected_log_loss=None), week(1, log_loss=None)]
    assert sum_excess_loss(weeks) == 0.0


@pytest.mark.parametrize("last", [None, trained(4)])
def test_without_windows_there_is_nothing_to_decide(last):
    decision = decide_retraining(config(every_windows=1), [week(0)] if last else [], last)
    assert decision.reason == "No window has been measured since the last training."


def test_a_policy_without_rules_says_so():
    assert decide_retraining(config(), [week(0, excess=9.0)], None).reason == "The policy has no rule that could fire."


summaries = st.lists(
    st.builds(
        lambda excess, labelled, known: week(
            0, excess=excess, labelled=labelled, **({} if known else {"log_loss": None})
        ),
        st.floats(-1, 1),
        st.integers(0, 1000),
        st.booleans(),
    ),
    max_size=12,
).map(lambda weeks: [msgspec.structs.replace(each, start=n * WEEK, end=(n + 1) * WEEK) for n, each in enumerate(weeks)])


@given(
    summaries, st.integers(0, 5), st.floats(0, 2000), st.integers(0, 4), st.none() | st.integers(-1, 12).map(trained)
)
def test_every_decision_has_a_reason_and_keeps_the_rules(weeks, every, excess, cooldown, last):
    policy = config(every_windows=every, excess_loss=excess, cooldown_windows=cooldown)
    decision = decide_retraining(policy, weeks, last)
    since = [each for each in weeks if last is None or each.end > last.until]
    assert decision.fire == (decision.kind != "none")
    assert decision.reason.endswith(".")
    assert decision.evidence["windows_since_training"] == len(since)
    msgspec.json.encode(decision)
    if decision.fire:
        assert len(since) >= max(1, cooldown)
        assert since[-1].labelled >= 500
    if decision.kind == "performance":
        assert 0 < excess <= decision.evidence["excess_loss"] + 1e-3
    if decision.kind == "schedule":
        assert 0 < every <= len(since)


@given(summaries)
def test_the_summed_excess_is_never_negative_and_never_more_than_all_excess(weeks):
    total = sum_excess_loss(weeks)
    excesses = [w.labelled * (w.log_loss - w.expected_log_loss) for w in weeks if w.log_loss is not None]
    assert 0 <= total <= sum(max(0.0, each) for each in excesses) + 1e-6
    assert total >= sum(excesses) - 1e-6


def test_deciding_needs_neither_polars_nor_numpy():
    code = "import sys, mainspring.automation; print([m for m in ('polars', 'numpy', 'pyarrow') if m in sys.modules])"
    found = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
