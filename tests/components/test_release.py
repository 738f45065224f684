from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mainspring.components import (
    deploy_version,
    evaluate_folder,
    evaluate_registered,
    fit_columns,
    gate_reports,
    predict_table,
    register_trained,
    split_rows,
    train_model,
)
from mainspring.core import InvalidInput, NotFound
from mainspring.core.project import load_project
from mainspring.core.settings import resolve_settings
from mainspring.delivery import active_rollout, latest_deployment
from mainspring.lineage import list_events, open_store
from mainspring.registry import resolve, resolve_alias
from mainspring.serving import read_deployment


@pytest.fixture
def release(churned, table, file, tracking: Path):
    """Train, evaluate, gate and register one version more."""
    train, test = (table(name, part) for name, part in zip(
        ("train", "test"), split_rows(churned(400), method="random", test_fraction=0.4), strict=True
    ))  # fmt: skip
    transform = file("transform")
    fit_columns(train, transform=transform, numeric=["fee", "tenure"], categorical=["contract"])

    def release(trees: int):
        model, evaluation, before = file(f"model{trees}"), file(f"evaluation{trees}"), file(f"before{trees}")
        run_id = train_model(
            train, transform=transform, target="churn", task="binary", estimator="lightgbm",
            settings={"n_estimators": trees, "num_leaves": 4}, experiment="release", model=model,
        )  # fmt: skip
        evaluate_folder(test, model=model, evaluation=evaluation, run_id=run_id)
        evaluate_registered(test, version="models:/churn@champion", evaluation=before)
        verdict = file(f"verdict{trees}")
        passed = gate_reports(evaluation, champion=before, verdict=verdict, model="churn")
        version = register_trained(
            "churn", run_id=run_id, verdict=verdict, evaluation=evaluation, registered=file("registered")
        )
        again = register_trained(
            "churn", run_id=run_id, verdict=verdict, evaluation=evaluation, registered=file("registered")
        )
        assert again == version
        return version, passed, before

    return release, test


def test_versions_are_gated_registered_once_and_rolled_out(release, tracking: Path, file) -> None:
    """The first version becomes champion at once, a better one as a canary; an endpoint can also be set directly."""
    release, test = release
    first, passed, before = release(3)
    assert passed
    assert Path(before.path).read_bytes() == b"null"
    with pytest.raises(NotFound, match=r"no model models:/churn@champion"):
        predict_table(test, predictions=file("p"), version="models:/churn@champion")
    assert deploy_version("churn", first, how="rollout", endpoint="shop") == f"churn@champion is version {first}"
    second, passed, before = release(15)
    assert passed
    assert msgspec.json.decode(Path(before.path).read_bytes())["rows"] == 160
    said = deploy_version("churn", second, how="rollout", endpoint="shop")
    assert said == f"shop rolls out version {second} against {first}"
    assert deploy_version("churn", second, how="rollout", endpoint="shop") == said

    store = open_store(resolve_settings(tracking), load_project(tracking))
    with store.database.read() as connection:
        rollout = active_rollout(connection, "shop")
        assert rollout is not None
        assert (rollout.candidate_version, rollout.champion_version) == (second, first)
        assert (
            resolve(connection, f"models:/churn/{second}")
            .tags["verdict"]
            .startswith("Passed: better than the champion")
        )
        gates = [event.data["champion_log_loss"] for event in list_events(connection, types=("gate.passed",))]
    assert gates[0] is None
    assert gates[1] > 0

    assert "(revision 1)" in deploy_version("churn", second, how="endpoint", endpoint="front")
    deployed = read_deployment(store.settings.endpoint_folder("front") / "deployment.json")
    assert [(variant.model.version, variant.weight) for variant in deployed.variants] == [(second, 100)]
    with store.database.read() as connection:
        assert latest_deployment(connection, "front").revision == 1
    store.close()
    assert deploy_version("churn", second) == f"churn@champion is version {second}"
    done = predict_table(test, predictions=file("p"), version="models:/churn@champion")
    assert (done.rows, done.problems) == (160, 0)


def test_what_cannot_be_deployed_is_refused(tracking: Path) -> None:
    with pytest.raises(InvalidInput, match="no way to deploy"):
        deploy_version("churn", "1", how="hope")
    with pytest.raises(InvalidInput, match="needs an endpoint"):
        deploy_version("churn", "1", how="rollout")
    with pytest.raises(NotFound):
        deploy_version("nobody", "1", how="endpoint", endpoint="front")


def test_a_rollout_is_what_the_control_loop_would_start(release, tracking: Path) -> None:
    """The endpoint has to be one of the project; a newer version takes the place of a canary; none is tried twice."""
    release, _ = release
    first, second, third = (release(trees)[0] for trees in (3, 9, 15))
    with pytest.raises(NotFound, match="no endpoint 'shpo'") as caught:
        deploy_version("churn", first, how="rollout", endpoint="shpo")
    assert caught.value.hint == "Its endpoints: shop."
    store = open_store(resolve_settings(tracking), load_project(tracking))
    with store.database.read() as connection:
        champion = resolve_alias(connection, "churn", "champion")
    if champion is None:
        champion = first
        deploy_version("churn", first, how="rollout", endpoint="shop")
    else:
        champion = champion.version
    assert "rolls out" in deploy_version("churn", second, how="rollout", endpoint="shop")
    said = deploy_version("churn", third, how="rollout", endpoint="shop")
    assert said == f"shop rolls out version {third} against {champion}"
    said = deploy_version("churn", second, how="rollout", endpoint="shop")
    assert said == f"shop has tried version {second} before; it is not rolled out again"
    store.close()
