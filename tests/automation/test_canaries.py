from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec

from mainspring.automation.canaries import Rollouts, adopt_version, restore_deployments
from mainspring.core import FixedClock
from mainspring.delivery import active_rollout, latest_deployment, list_rollouts
from mainspring.lineage import Store, list_events
from mainspring.registry import ModelVersion, alias_history, resolve_alias, set_alias
from mainspring.serving import LabelRecord, PredictionRecord, read_deployment
from mainspring.serving.log import SegmentLog

HOUR = 3_600_000
Register = Callable[[], ModelVersion]


def settle(store: Store) -> None:
    rollouts = Rollouts(store)
    while rollouts.reconcile():
        pass


def champion(store: Store) -> str | None:
    with store.database.read() as connection:
        version = resolve_alias(connection, "m", "champion")
    return version.version if version else None


def deployed(store: Store) -> dict[str, tuple[str, int]]:
    document = read_deployment(store.settings.endpoint_folder("e") / "deployment.json")
    return {variant.name: (variant.model.version, variant.weight) for variant in document.variants}


def test_nothing_is_deployed_before_there_is_a_champion(store: Store) -> None:
    settle(store)
    assert not (store.settings.endpoint_folder("e") / "deployment.json").exists()


def test_the_first_version_becomes_champion_and_is_deployed(store: Store, register: Register) -> None:
    adopt_version(store, "e", register(), cause=None)
    settle(store)
    assert champion(store) == "1"
    assert deployed(store) == {"champion": ("1", 100), "baseline": ("1", 0)}


def test_a_second_version_becomes_a_canary_once(store: Store, register: Register) -> None:
    adopt_version(store, "e", register(), cause=None)
    second = register()
    for _ in range(3):
        adopt_version(store, "e", second, cause=None)
        settle(store)
    assert champion(store) == "1"
    assert deployed(store) == {"champion": ("1", 80), "canary": ("2", 20), "baseline": ("1", 0)}
    with store.database.read() as connection:
        (rollout,) = list_rollouts(connection)
        revisions = latest_deployment(connection, "e")
    assert rollout.state == "CANARY"
    assert revisions is not None
    assert revisions.revision == 1


def test_a_newer_version_takes_the_place_of_a_canary(store: Store, register: Register) -> None:
    adopt_version(store, "e", register(), cause=None)
    adopt_version(store, "e", register(), cause=None)
    settle(store)
    adopt_version(store, "e", register(), cause=None)
    settle(store)
    assert deployed(store)["canary"] == ("3", 20)
    with store.database.read() as connection:
        states = {rollout.candidate_version: rollout.state for rollout in list_rollouts(connection)}
    assert states == {"2": "ROLLED_BACK", "3": "CANARY"}


def test_a_crash_between_deploying_and_noting_it_is_repaired(store: Store, register: Register) -> None:
    adopt_version(store, "e", register(), cause=None)
    settle(store)
    path = store.settings.endpoint_folder("e") / "deployment.json"
    path.unlink()
    restore_deployments(store)
    assert deployed(store)["champion"] == ("1", 100)
    path.write_text("{half")
    restore_deployments(store)
    assert deployed(store)["champion"] == ("1", 100)


def log_hour(store: Store, clock: FixedClock, number: int, *, champion_score: float, canary_score: float) -> None:
    """Log an hour's request of 40 punctual flights, answered by the champion and shadowed by the canary."""
    folder = store.settings.endpoint_folder("e")
    id, now = f"request-{number}", clock.now_ms()
    shared = {
        "id": id, "received_at": now, "latency_ms": 1.0, "endpoint": "e", "revision": 2, "model": "m", "digest": "",
        "protocol": "mlflow", "status": 200, "rows": 40,
    }  # fmt: skip
    answers = [("champion", "1", False, champion_score), ("canary", "2", True, canary_score)]
    predictions, labels = SegmentLog(folder / "predictions", clock), SegmentLog(folder / "labels", clock)
    predictions.append(
        [
            PredictionRecord(**shared, variant=name, version=version, shadow=shadow, outputs=[score] * 40)
            for name, version, shadow, score in answers
        ]
    )
    labels.append([LabelRecord(id=f"{id}:{row}", label=0, time=now, received_at=now) for row in range(40)])
    predictions.close(), labels.close()


def live_through_a_canary(store: Store, register: Register, clock: FixedClock, **scores: float) -> None:
    adopt_version(store, "e", register(), cause=None)
    adopt_version(store, "e", register(), cause=None)
    settle(store)
    rollouts = Rollouts(store)
    for number in range(200):
        clock.advance(HOUR)
        log_hour(store, clock, number, **scores)
        if number % 24 == 23:
            rollouts.reconcile()
            with store.database.read() as connection:
                if active_rollout(connection, "e") is None:
                    break
    settle(store)


def test_a_better_canary_is_promoted_with_its_reason(store: Store, register: Register, clock: FixedClock) -> None:
    live_through_a_canary(store, register, clock, champion_score=0.4, canary_score=0.1)
    assert champion(store) == "2"
    assert deployed(store) == {"champion": ("2", 100), "baseline": ("1", 0)}
    with store.database.read() as connection:
        move = alias_history(connection, "m")[0]
        (promoted,) = list_events(connection, types=("rollout.promoted",))
    assert (move.from_version, move.to_version, move.actor) == ("1", "2", "ada")
    assert "better" in move.reason
    assert move.cause == promoted.id


def test_a_canary_that_fails_is_rolled_back_without_waiting_for_labels(
    store: Store, register: Register, clock: FixedClock
) -> None:
    adopt_version(store, "e", register(), cause=None)
    adopt_version(store, "e", register(), cause=None)
    settle(store)
    log = SegmentLog(store.settings.endpoint_folder("e") / "predictions", clock)
    clock.advance(HOUR)
    log.append(
        [
            PredictionRecord(
                id=f"r{number}", received_at=clock.now_ms(), latency_ms=1.0, endpoint="e", revision=2,
                variant="canary", shadow=False, model="m", version="2", digest="", protocol="v2", status=500, rows=1,
            )
            for number in range(20)
        ]
    )  # fmt: skip
    log.close()
    clock.advance(HOUR)
    settle(store)
    with store.database.read() as connection:
        (rollout,) = list_rollouts(connection)
    assert rollout.state == "ROLLED_BACK"
    assert "fails more often" in rollout.reason
    assert deployed(store) == {"champion": ("1", 100), "baseline": ("1", 0)}


def test_a_person_who_moves_the_champion_ends_the_canary(store: Store, register: Register) -> None:
    for _ in range(2):
        adopt_version(store, "e", register(), cause=None)
    third = register()
    settle(store)
    with store.database.write() as connection:
        set_alias(
            connection, store.clock, name="m", alias="champion", version=third.version, actor="bob", reason="incident"
        )
    settle(store)
    assert deployed(store) == {"champion": ("3", 100), "baseline": ("1", 0)}
    with store.database.read() as connection:
        (rollout,) = list_rollouts(connection)
    assert rollout.state == "ROLLED_BACK"
    assert "moved to version 3" in rollout.reason


def test_a_version_that_was_champion_is_not_rolled_out_again(store: Store, register: Register) -> None:
    first, second = register(), register()
    adopt_version(store, "e", first, cause=None)
    with store.database.write() as connection:
        set_alias(
            connection, store.clock, name="m", alias="champion", version=second.version, actor="bob", reason="by hand"
        )
    adopt_version(store, "e", first, cause=None)
    with store.database.read() as connection:
        assert list_rollouts(connection) == []


def test_an_old_version_adopted_again_does_not_end_a_canary(store: Store, register: Register) -> None:
    first = register()
    adopt_version(store, "e", first, cause=None)
    adopt_version(store, "e", register(), cause=None)
    settle(store)
    adopt_version(store, "e", first, cause=None)
    settle(store)
    assert deployed(store)["canary"] == ("2", 20)


def test_another_share_for_the_canary_is_deployed(store: Store, register: Register) -> None:
    for _ in range(2):
        adopt_version(store, "e", register(), cause=None)
    settle(store)
    rollout = msgspec.structs.replace(store.project.rollout, canary_percent=5)
    project = msgspec.structs.replace(store.project, rollout=rollout)
    settle(dataclasses.replace(store, project=project))
    assert deployed(store)["canary"] == ("2", 5)


def test_a_worse_canary_is_rolled_back(store: Store, register: Register, clock: FixedClock) -> None:
    live_through_a_canary(store, register, clock, champion_score=0.1, canary_score=0.4)
    assert champion(store) == "1"
    assert deployed(store) == {"champion": ("1", 100), "baseline": ("1", 0)}
    with store.database.read() as connection:
        (rollout,) = list_rollouts(connection)
    assert rollout.state == "ROLLED_BACK"
    assert "worse" in rollout.reason
