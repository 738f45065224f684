from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import Conflict, InvalidInput
from mainspring.core.project import RolloutConfig
from mainspring.delivery import (
    Rollout,
    RolloutEvidence,
    active_rollout,
    advance,
    begin_canary,
    get_rollout,
    list_rollouts,
    save_step,
    start_rollout,
)
from mainspring.lineage import get_event, trace_cause

ROLLOUT = Rollout(
    id="r", endpoint="e", model="m", candidate_version="2", champion_version="1", state="CANARY", started_at=0,
    ended_at=None, reason="", statistics={}, cause=None, event="x",
)  # fmt: skip
CONFIG = RolloutConfig(canary_percent=20, alpha=0.05, margin=0.002, min_labels=200, max_windows=4)


def noise(mean: float, rows: int, *, sd: float = 0.25) -> np.ndarray:
    values = np.random.default_rng(rows).normal(0, sd, rows)
    return values - values.mean() + mean


def decide(losses=(), **evidence):
    return advance(ROLLOUT, RolloutEvidence(losses=losses, **evidence), CONFIG)


def test_without_evidence_the_canary_goes_on():
    step = decide()
    assert step.action == "continue"
    assert "no labelled rows" in step.reason
    assert step.statistics.mean_difference is None


def test_a_clearly_better_canary_is_promoted_before_the_minimum_of_labels():
    step = decide(noise(-0.4, 150))
    assert step.action == "promote"
    assert step.reason.startswith("The canary is better: log loss -0.4000 ±")


def test_a_clearly_worse_canary_is_rolled_back():
    step = decide(noise(0.4, 150))
    assert step.action == "roll_back"
    assert "worse by more than 0.002" in step.reason


def test_a_canary_within_the_margin_is_promoted_once_there_are_enough_labels():
    assert decide(noise(0.001, 199)).action == "continue"
    step = decide(noise(0.001, 200))
    assert step.action == "promote"
    assert "within the margin" in step.reason


def test_a_canary_slightly_beyond_the_margin_goes_on_until_time_is_up():
    assert decide(noise(0.01, 300), windows=3).action == "continue"
    step = decide(noise(0.01, 300), windows=4)
    assert step.action == "roll_back"
    assert "No proof" in step.reason
    assert "4 windows" in step.reason


def test_errors_of_the_canary_roll_back_whatever_its_losses_say():
    step = decide(noise(-0.4, 500), canary_errors=30, champion_errors=20)
    assert step.action == "roll_back"
    assert "30 errors against 20" in step.reason
    assert decide(canary_errors=5, champion_errors=20).action == "continue"


def test_a_canary_without_a_share_of_the_traffic_is_not_judged_by_errors():
    config = msgspec.structs.replace(CONFIG, canary_percent=100)
    step = advance(ROLLOUT, RolloutEvidence(losses=[], canary_errors=50), config)
    assert (step.action, step.statistics.errors_log_e) == ("continue", 0.0)


def test_harm_is_looked_at_before_gain():
    both = np.concatenate([noise(0.5, 100), noise(-0.5, 1000)])
    step = decide(both)
    assert step.statistics.better.fires(0.05)
    assert step.action == "roll_back"


@pytest.mark.parametrize("state", ["PROMOTED", "ROLLED_BACK"])
def test_a_rollout_that_is_over_does_not_advance(state):
    with pytest.raises(Conflict, match=state):
        advance(msgspec.structs.replace(ROLLOUT, state=state), RolloutEvidence(losses=[]), CONFIG)


def test_losses_that_are_not_numbers_are_refused():
    with pytest.raises(InvalidInput):
        decide([0.1, math.nan])


@given(
    st.lists(st.floats(-1, 1), max_size=60),
    st.integers(0, 20),
    st.integers(0, 60),
    st.integers(0, 6),
)
def test_every_evidence_leads_to_one_action_with_a_reason_and_storable_numbers(losses, canary, champion, windows):
    step = decide(losses, canary_errors=canary, champion_errors=champion, windows=windows)
    assert step.action in {"continue", "promote", "roll_back"}
    assert step.reason.endswith(".")
    assert "NaN" not in step.reason
    encoded = msgspec.json.encode(step)
    assert msgspec.json.decode(encoded, type=type(step)) == step
    if windows >= CONFIG.max_windows:
        assert step.action != "continue"


def grouped(random: np.random.Generator, mean: float, *, requests: int = 130, rows: int = 40):
    shared = random.normal(0, 0.1, requests)
    losses = mean + np.repeat(shared, rows) + random.normal(0, 0.2, requests * rows)
    return RolloutEvidence(losses=losses, requests=np.repeat(np.arange(requests), rows))


def test_rows_of_a_request_that_are_alike_are_not_mistaken_for_evidence():
    random = np.random.default_rng(5)
    aware, unaware = 0, 0
    for _ in range(200):
        evidence = grouped(random, 0.0)
        statistics = advance(ROLLOUT, evidence, CONFIG).statistics
        aware += statistics.worse.fires(0.05)
        unaware += advance(ROLLOUT, RolloutEvidence(losses=evidence.losses), CONFIG).statistics.worse.fires(0.05)
    assert aware <= 200 * 0.05
    assert unaware > 200 * 0.15


def test_a_real_gain_is_found_request_by_request_too():
    random = np.random.default_rng(6)
    fired = [advance(ROLLOUT, grouped(random, -0.05), CONFIG).statistics.better.fires(0.05) for _ in range(50)]
    assert np.mean(fired) > 0.9


def test_the_standard_error_allows_for_rows_of_one_request():
    random = np.random.default_rng(7)
    found = [advance(ROLLOUT, grouped(random, 0.0), CONFIG).statistics for _ in range(100)]
    spread = np.std([statistics.mean_difference for statistics in found])
    assert np.mean([statistics.standard_error for statistics in found]) == pytest.approx(spread, rel=0.25)
    assert found[0].requests == 130
    assert decide([0.1]).statistics.standard_error is None


def begin(connection, clock, **changes) -> Rollout:
    fields = {"endpoint": "e", "model": "m", "candidate_version": "2", "champion_version": "1", **changes}
    return start_rollout(connection, clock, **fields)


def test_a_rollout_is_started_takes_traffic_and_is_promoted_with_events_that_name_their_causes(database, clock):
    with database.write() as connection:
        started = begin(connection, clock, cause=None, reason="passed the gate")
        assert started.state == "PENDING"
        assert active_rollout(connection, "e") == started
        begin_canary(connection, started.id)
    clock.advance(10)
    step = advance(started, RolloutEvidence(losses=noise(-0.4, 200)), CONFIG)
    with database.write() as connection:
        event = save_step(connection, clock, started.id, step)
        assert active_rollout(connection, "e") is None
        ended = get_rollout(connection, started.id)
        chain = [found.type for found in trace_cause(connection, event)]
    assert (ended.state, ended.ended_at, ended.reason) == ("PROMOTED", clock.now_ms(), step.reason)
    assert ended.statistics["rows"] == 200
    assert chain == ["rollout.promoted", "rollout.started"]


def test_a_roll_back_is_recorded_with_the_cause_it_is_given(database, clock):
    with database.write() as connection:
        started = begin(connection, clock)
        event = save_step(connection, clock, started.id, decide(noise(0.4, 200)), cause="window-event")
        found = get_event(connection, event)
        assert get_rollout(connection, started.id).state == "ROLLED_BACK"
    assert (found.type, found.cause, found.data["candidate"]) == ("rollout.rolled_back", "window-event", "2")


def test_a_step_that_continues_keeps_the_numbers_and_records_nothing(database, clock):
    with database.write() as connection:
        started = begin(connection, clock)
        assert save_step(connection, clock, started.id, decide(noise(0.0, 10))) is None
        kept = get_rollout(connection, started.id)
    assert (kept.state, kept.ended_at, kept.statistics["rows"]) == ("PENDING", None, 10)


def test_an_endpoint_has_one_rollout_at_a_time(database, clock):
    with database.write() as connection:
        first = begin(connection, clock)
        begin(connection, clock, endpoint="other")
    with pytest.raises(Conflict, match="already rolling out 2"), database.write() as connection:
        begin(connection, clock, candidate_version="3")
    clock.advance(1)
    with database.write() as connection:
        save_step(connection, clock, first.id, decide(noise(0.4, 200)))
        begin(connection, clock, candidate_version="3")
        assert [r.candidate_version for r in list_rollouts(connection, endpoint="e")] == ["3", "2"]
        assert len(list_rollouts(connection)) == 3


def test_states_only_move_forwards(sqlite_database, clock):
    with sqlite_database.write() as connection:
        started = begin(connection, clock)
        begin_canary(connection, started.id)
        with pytest.raises(Conflict, match="CANARY"):
            begin_canary(connection, started.id)
        save_step(connection, clock, started.id, decide(noise(0.4, 200)))
        with pytest.raises(Conflict, match="over"):
            save_step(connection, clock, started.id, decide(noise(0.4, 200)))
