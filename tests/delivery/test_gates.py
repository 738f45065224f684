from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.delivery import Evaluation, GateVerdict, SliceEvaluation, judge_gate
from mainspring.delivery.gates import constant_log_loss, paired_difference

LOSSES = np.random.default_rng(0).exponential(0.5, 1000)


def evaluate(
    losses=LOSSES, *, slices: dict[str, tuple[int, float]] | None = None, base_rate: float = 0.25
) -> Evaluation:
    values = [float(loss) for loss in losses]
    return Evaluation(
        rows=len(values), log_loss=float(np.mean(values)), auc=0.7, base_rate=base_rate, losses=values,
        slices=[SliceEvaluation(name=n, rows=r, log_loss=loss) for n, (r, loss) in (slices or {}).items()],
    )  # fmt: skip


def test_a_better_candidate_passes_and_the_reason_has_the_numbers():
    verdict = judge_gate(evaluate(LOSSES - 0.01), evaluate(), min_gain=0.005)
    assert verdict.passed
    assert "gain 0.0100 ± 0.0000" in verdict.reason
    assert "1,000 rows" in verdict.reason


def test_a_candidate_that_gains_too_little_is_refused():
    assert not judge_gate(evaluate(LOSSES - 0.004), evaluate(), min_gain=0.005).passed
    assert not judge_gate(evaluate(), evaluate(), min_gain=0.0).passed
    assert judge_gate(evaluate(LOSSES + 0.01), evaluate(), min_gain=0.0).reason.startswith("Refused: better than")


def test_the_first_model_has_to_beat_the_best_constant():
    assert constant_log_loss(0.25) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    assert constant_log_loss(0.0) == constant_log_loss(1.0) == 0.0
    assert judge_gate(evaluate([0.5] * 10), None).passed
    refused = judge_gate(evaluate([0.57] * 10), None)
    assert not refused.passed
    assert "0.5623 of the best constant" in refused.reason
    assert not judge_gate(evaluate([0.56] * 10), None, min_gain=0.01).passed


def with_slice(rows: int, loss: float, *, noise: float = 0.0) -> GateVerdict:
    random = np.random.default_rng(1)
    ours = evaluate(LOSSES - 0.01 + random.normal(0, noise, 1000), slices={"origin=JFK": (rows, 0.5 + loss)})
    return judge_gate(ours, evaluate(slices={"origin=JFK": (rows, 0.5)}), min_gain=0.0)


def test_a_big_slice_that_gets_much_worse_refuses_the_candidate():
    assert with_slice(500, 0.01).passed
    refused = with_slice(500, 0.03)
    assert not refused.passed
    assert "origin=JFK" in refused.reason
    assert [check.passed for check in refused.checks] == [True, False]


def test_small_slices_and_slices_within_the_noise_do_not_count():
    assert with_slice(199, 5.0).passed
    assert with_slice(500, 0.03, noise=0.3).passed
    assert not with_slice(500, 0.08, noise=0.3).passed


def test_a_slice_the_champion_was_not_judged_on_is_not_compared():
    ours = evaluate(LOSSES - 0.01, slices={"new": (500, 9.0)})
    assert len(judge_gate(ours, evaluate()).checks) == 1


@pytest.mark.parametrize("theirs", [LOSSES[:10], []])
def test_evaluations_of_different_rows_are_refused(theirs):
    with pytest.raises(InvalidInput, match="paired"):
        judge_gate(evaluate(), Evaluation(rows=10, log_loss=0.1, base_rate=0.1, losses=list(theirs)))


def test_nothing_can_be_judged_without_rows():
    with pytest.raises(InvalidInput, match="no labelled rows"):
        judge_gate(Evaluation(rows=0, log_loss=0.0, base_rate=0.0), None)


def test_losses_that_are_not_numbers_are_refused():
    with pytest.raises(InvalidInput, match="finite"):
        paired_difference([math.nan], [0.1])


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=2, max_size=50), st.floats(-0.1, 0.1))
def test_the_verdict_follows_the_mean_paired_gain_and_survives_json(pairs, min_gain):
    ours, theirs = zip(*pairs, strict=True)
    verdict = judge_gate(evaluate(ours), evaluate(theirs), min_gain=min_gain)
    difference = paired_difference(theirs, ours)
    assert verdict.passed == (difference.mean > min_gain)
    deviations = np.array(theirs) - np.array(ours)
    assert difference.standard_error == pytest.approx(deviations.std(ddof=1) / math.sqrt(len(pairs)), abs=1e-9)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=GateVerdict) == verdict
