"""Models: logged, loaded, registered, searched, staged, evaluated."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

IS_LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1" or os.environ.get("MAINSPRING_CONFORMANCE") == "both"
LONG = pytest.mark.skipif(not IS_LONG, reason="MAINSPRING_LONG_TESTS=1 runs it")
FEATURES = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0)[::-1]})
LABELS = (FEATURES["a"] > 19).astype(int)


@pytest.fixture
def model() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(FEATURES, LABELS)


@pytest.fixture
def logged(mlflow: Any, experiment: str, model: Any) -> Any:
    """A logged model with an input example, and metrics on it."""
    with warnings.catch_warnings(), mlflow.start_run():
        warnings.simplefilter("ignore")
        return mlflow.sklearn.log_model(
            model, name="clf", input_example=FEATURES.head(2), pip_requirements=["scikit-learn"]
        )


def test_a_model_is_loaded_by_run_id_version_alias_and_latest(mlflow: Any, client: Any, logged: Any, name: str) -> None:
    first = mlflow.register_model(logged.model_uri, name, tags={"k": "v"})
    second = mlflow.register_model(f"runs:/{logged.run_id}/clf", name)
    client.set_registered_model_alias(name, "champion", "1")
    assert (first.version, first.run_id, second.version) == ("1", logged.run_id, "2")
    for uri in (
        logged.model_uri, f"runs:/{logged.run_id}/clf", f"models:/{name}/1", f"models:/{name}@champion",
        f"models:/{name}/latest",
    ):  # fmt: skip
        assert list(mlflow.pyfunc.load_model(uri).predict(FEATURES)) == list(LABELS)
    assert mlflow.models.get_model_info(f"models:/{name}/1").signature == logged.signature
    found = client.get_model_version_by_alias(name, "champion")
    assert (found.version, found.aliases, found.tags, found.status) == ("1", ["champion"], {"k": "v"}, "READY")
    linked = mlflow.get_logged_model(logged.model_id)
    assert name in linked.tags["mlflow.modelVersions"]


def test_logged_models_are_searched(mlflow: Any, client: Any, experiment: str) -> None:
    dataset = mlflow.data.from_pandas(FEATURES, name="data")
    ids = []
    with mlflow.start_run():
        for number in range(3):
            made = mlflow.initialize_logged_model(f"m{number}", params={"p": str(number)}, tags={"t": "x"})
            mlflow.log_metric("acc", number / 10, model_id=made.model_id, dataset=dataset if number else None)
            mlflow.finalize_logged_model(made.model_id, "READY")
            ids.append(made.model_id)

    def search(filter: str = "", **given: Any) -> list[str]:
        found = client.search_logged_models([experiment], filter_string=filter, **given)
        return [one.name for one in found]

    assert search("name = 'm1'") == ["m1"]
    assert search("metrics.acc > 0.05 AND params.p = '1'") == ["m1"]
    assert search(order_by=[{"field_name": "metrics.acc", "ascending": False}]) == ["m2", "m1", "m0"]
    assert search(order_by=[{"field_name": "name"}], max_results=2) == ["m0", "m1"]
    on = [{"dataset_name": "data", "dataset_digest": dataset.digest}]
    assert search(datasets=on, order_by=[{"field_name": "name"}]) == ["m1", "m2"]
    assert search("metrics.acc >= 0", datasets=on, order_by=[{"field_name": "name"}]) == ["m1", "m2"]
    client.set_logged_model_tags(ids[0], {"u": "y"})
    client.delete_logged_model_tag(ids[0], "t")
    assert client.get_logged_model(ids[0]).tags["u"] == "y"
    assert "t" not in client.get_logged_model(ids[0]).tags
    client.delete_logged_model(ids[0])
    with pytest.raises(mlflow.MlflowException, match="not found"):
        client.get_logged_model(ids[0])


def test_registered_models_live_and_die(mlflow: Any, client: Any, name: str) -> None:
    made = client.create_registered_model(name, tags={"key": "value", "numeric": 12345}, description="d")
    assert (made.tags, made.description) == ({"key": "value", "numeric": "12345"}, "d")
    with pytest.raises(mlflow.MlflowException, match=r"Registered Model .+ already exists") as error:
        client.create_registered_model(name)
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"
    assert client.update_registered_model(name, "other").description == "other"
    client.set_registered_model_tag(name, "k", "v")
    client.delete_registered_model_tag(name, "key")
    assert client.get_registered_model(name).tags == {"numeric": "12345", "k": "v"}
    one = client.create_model_version(name, "s3://bucket/model", "run_id_1", tags={"a": "b"}, description="first")
    two = client.create_model_version(name, "s3://bucket/other", "run_id_2")
    assert (one.version, two.version) == ("1", "2")
    assert client.get_model_version_download_uri(name, "1") == "s3://bucket/model"
    assert [found.version for found in client.get_registered_model(name).latest_versions] == ["2"]
    client.rename_registered_model(name, name + "x")
    assert client.get_registered_model(name + "x").description == "other"
    with pytest.raises(mlflow.MlflowException, match=f"Registered Model with name={name} not found"):
        client.get_registered_model(name)
    client.delete_model_version(name + "x", "2")
    with pytest.raises(mlflow.MlflowException, match=r"Model Version .+ not found"):
        client.update_model_version(name + "x", "2", "d")
    assert client.create_model_version(name + "x", "s3://bucket/third").version == "3"
    client.delete_registered_model(name + "x")
    with pytest.raises(mlflow.MlflowException, match=r"Registered Model .+ not found"):
        client.delete_registered_model(name + "x")


def test_stages_move_as_they_did(mlflow: Any, client: Any, name: str) -> None:
    client.create_registered_model(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        stages = ("Archived", "Production", "Archived", "Production", "Staging", "Staging", "None")
        for version, stage in enumerate(stages, start=1):
            client.create_model_version(name, "s3://bucket/model")
            if stage != "None":
                client.transition_model_version_stage(name, str(version), stage)

        def latest(wanted: list[str] | None) -> dict[str, str]:
            return {found.current_stage: found.version for found in client.get_latest_versions(name, wanted)}

        assert latest(["None"]) == {"None": "7"}
        assert latest(["staging", "None"]) == {"None": "7", "Staging": "6"}
        assert latest(None) == {"Production": "4", "Staging": "6", "Archived": "3", "None": "7"}
        client.transition_model_version_stage(name, "7", "Production", archive_existing_versions=True)
        assert latest(["Production", "Archived"]) == {"Production": "7", "Archived": "4"}
        with pytest.raises(mlflow.MlflowException, match="Invalid Model Version stage: nope"):
            client.transition_model_version_stage(name, "7", "nope")


def test_registry_searches(mlflow: Any, client: Any, name: str) -> None:
    names = [f"{name}-{number:03}" for number in range(6)]
    for one in names:
        client.create_registered_model(one, tags={"even": str(int(one[-1]) % 2 == 0)})

    def pages(filter: str, size: int) -> list[str]:
        found = client.search_registered_models(filter, max_results=size)
        result = list(found)
        while found.token:
            found = client.search_registered_models(filter, max_results=size, page_token=found.token)
            result += found
        return [one.name for one in result]

    for size in (1, 4, 6, 100):
        assert pages(f"name LIKE '{name}-%'", size) == names
    assert pages(f"name ILIKE '{name.upper()}-%3'", 100) == [names[3]]
    assert pages(f"name LIKE '{name.upper()}-%'", 100) == []
    assert pages(f"name LIKE '{name}-%' AND tags.even = 'True'", 100) == names[::2]
    versions = [client.create_model_version(names[0], f"s3://bucket/{number}", f"run{number}") for number in range(3)]
    client.set_model_version_tag(names[0], "1", "k", "v")
    client.delete_model_version_tag(names[0], "1", "nothing")

    def found(filter: str, *order: str) -> list[str]:
        return [
            one.version for one in client.search_model_versions(f"name = '{names[0]}' {filter}", order_by=list(order))
        ]

    assert found("", "version_number ASC") == [one.version for one in versions] == ["1", "2", "3"]
    assert found("AND run_id = 'run1'") == ["2"]
    assert sorted(found("AND run_id IN ('run1', 'run2')")) == ["2", "3"]
    assert found("AND source_path = 's3://bucket/2'") == ["3"]
    assert found("AND tags.k = 'v'") == ["1"]
    assert found("AND version_number > 1", "version_number DESC") == ["3", "2"]
    for wrong in ("zz = 'x'", "name > 'x'"):
        with pytest.raises(mlflow.MlflowException) as error:
            client.search_registered_models(wrong)
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(mlflow.MlflowException, match="must be an integer"):
        client.get_model_version(names[0], "something not correct")


def test_aliases_move(mlflow: Any, client: Any, name: str) -> None:
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, "s3://bucket/model")
    client.set_registered_model_alias(name, "test_alias", "1")
    client.set_registered_model_alias(name, "test_alias", "2")
    client.set_registered_model_alias(name, "other", "2")
    assert client.get_registered_model(name).aliases == {"test_alias": "2", "other": "2"}
    assert sorted(client.get_model_version(name, "2").aliases) == ["other", "test_alias"]
    client.delete_registered_model_alias(name, "other")
    client.delete_registered_model_alias(name, "other")
    with pytest.raises(mlflow.MlflowException, match="Registered model alias other not found"):
        client.get_model_version_by_alias(name, "other")
    for wrong in ("latest", "v1", "a/b"):
        with pytest.raises(mlflow.MlflowException) as error:
            client.set_registered_model_alias(name, wrong, "1")
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    client.delete_model_version(name, "2")
    assert client.get_registered_model(name).aliases == {}


def test_prompts_are_kept_apart_from_models(mlflow: Any, client: Any, name: str) -> None:
    mlflow.genai.register_prompt(name, "Hello {{who}}", commit_message="first", tags={"a": "b"})
    mlflow.genai.register_prompt(name, "Good day {{who}}")
    assert mlflow.genai.load_prompt(f"prompts:/{name}/1").format(who="you") == "Hello you"
    mlflow.genai.set_prompt_alias(name, "live", 2)
    assert mlflow.genai.load_prompt(f"prompts:/{name}@live").template == "Good day {{who}}"
    assert client.search_registered_models(f"name = '{name}'") == []
    assert [found.name for found in mlflow.genai.search_prompts(f"name = '{name}'")] == [name]


@pytest.mark.parametrize(
    "flavor", ["lightgbm", pytest.param("sklearn", marks=LONG), pytest.param("xgboost", marks=LONG)]
)
def test_autologging(mlflow: Any, client: Any, experiment: str, flavor: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(mlflow, flavor).autolog(log_input_examples=False, silent=True)
        try:
            with mlflow.start_run() as run:
                _train(flavor)
        finally:
            getattr(mlflow, flavor).autolog(disable=True, silent=True)
        found = client.get_run(run.info.run_id)
        expected = {"sklearn": "C", "lightgbm": "num_leaves", "xgboost": "max_depth"}[flavor]
        assert expected in found.data.params
        assert found.data.metrics
        assert found.inputs.dataset_inputs
        (model,) = found.outputs.model_outputs
        loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
        assert len(loaded.predict(FEATURES)) == 40


def _train(flavor: str) -> None:
    if flavor == "sklearn":
        from sklearn.linear_model import LogisticRegression

        LogisticRegression().fit(FEATURES, LABELS)
    elif flavor == "lightgbm":
        import lightgbm

        data = lightgbm.Dataset(FEATURES, LABELS)
        params = {"objective": "binary", "num_leaves": 3, "min_data_in_leaf": 2, "verbose": -1, "num_threads": 1}
        lightgbm.train(params, data, num_boost_round=3, valid_sets=[data])
    else:
        import xgboost

        data = xgboost.DMatrix(FEATURES, LABELS)
        xgboost.train({"max_depth": 2, "nthread": 1}, data, num_boost_round=3, evals=[(data, "train")])


def test_evaluate(mlflow: Any, client: Any, logged: Any) -> None:
    frame = FEATURES.assign(label=LABELS)
    with warnings.catch_warnings(), mlflow.start_run() as run:
        warnings.simplefilter("ignore")
        result = mlflow.models.evaluate(
            logged.model_uri, frame, targets="label", model_type="classifier",
            evaluator_config={"log_explainer": False, "log_model_explainability": False},
        )  # fmt: skip
    assert result.metrics["accuracy_score"] == 1.0
    assert client.get_run(run.info.run_id).data.metrics["accuracy_score"] == 1.0
    assert any(metric.key == "accuracy_score" for metric in client.get_logged_model(logged.model_id).metrics)
