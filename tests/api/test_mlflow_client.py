"""The unmodified MLflow client against a real server process."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mainspring import registry, tracking
from mainspring.blobs import read_tree


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "payload"
    folder.mkdir()
    (folder / "booster.txt").write_text("trees")
    return folder


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A loader module as the demo's pipeline has one."""
    (tmp_path / "tiny_loader.py").write_text(
        "from pathlib import Path\n"
        "class Model:\n"
        "    def __init__(self, path): self.text = (Path(path) / 'booster.txt').read_text()\n"
        "    def predict(self, frame, params=None): return [len(self.text)] * len(frame)\n"
        "def _load_pyfunc(path): return Model(path)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "tiny_loader"


def test_fluent_logging_is_read_back(mlflow_client, server) -> None:
    mlflow_client.set_experiment("fluent")
    with mlflow_client.start_run(run_name="first") as run:
        mlflow_client.log_params({"depth": 3, "kind": "x"})
        for step in range(3):
            mlflow_client.log_metric("loss", 1.0 - step / 10, step=step)
        mlflow_client.log_metrics({"auc": 0.9, "nan": math.nan, "inf": math.inf})
        mlflow_client.set_tags({"team": "ml"})
    found = mlflow_client.get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "first"
    assert found.data.params == {"depth": "3", "kind": "x"}
    assert found.data.tags["team"] == "ml"
    assert (found.data.metrics["loss"], found.data.metrics["inf"]) == (0.8, 1.7976931348623157e308)
    assert math.isnan(found.data.metrics["nan"])
    history = mlflow_client.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.9), (2, 0.8)]


def test_failed_run_is_failed(mlflow_client) -> None:
    mlflow_client.set_experiment("failing")
    with pytest.raises(ZeroDivisionError), mlflow_client.start_run() as run:
        raise ZeroDivisionError
    assert mlflow_client.get_run(run.info.run_id).info.status == "FAILED"


def test_nested_runs_datasets_and_search(mlflow_client) -> None:
    import pandas as pd

    experiment = mlflow_client.set_experiment("search")
    dataset = mlflow_client.data.from_pandas(pd.DataFrame({"a": [1.0]}), name="flights")
    with mlflow_client.start_run(run_name="parent"):
        for depth in range(3):
            with mlflow_client.start_run(run_name=f"child-{depth}", nested=True):
                mlflow_client.log_param("depth", depth)
                mlflow_client.log_metric("loss", depth / 10)
                mlflow_client.log_input(dataset, context="training")
    found = mlflow_client.search_runs(
        [experiment.experiment_id],
        filter_string="metrics.loss < 0.15 AND params.depth != '9'",
        order_by=["metrics.loss DESC"],
    )
    assert list(found["tags.mlflow.runName"]) == ["child-1", "child-0"]
    by_dataset = mlflow_client.search_runs([experiment.experiment_id], filter_string="dataset.name = 'flights'")
    assert len(by_dataset) == 3
    (given,) = mlflow_client.get_run(found["run_id"][0]).inputs.dataset_inputs
    assert (given.dataset.name, given.tags[0].value) == ("flights", "training")


def test_client_pages_and_manages_runs_and_experiments(mlflow_client) -> None:
    client = mlflow_client.MlflowClient()
    id = client.create_experiment("managed", tags={"a": "b"})
    runs = [client.create_run(id).info.run_id for _ in range(5)]
    page = client.search_runs([id], max_results=3)
    rest = client.search_runs([id], max_results=3, page_token=page.token)
    assert len(page) + len(rest) == 5
    assert not rest.token
    client.delete_run(runs[0])
    assert len(client.search_runs([id])) == 4
    client.restore_run(runs[0])
    client.rename_experiment(id, "renamed")
    client.set_experiment_tag(id, "c", "d")
    assert client.get_experiment(id).tags == {"a": "b", "c": "d"}
    assert client.get_experiment_by_name("nobody") is None
    client.delete_experiment(id)
    assert id not in [found.experiment_id for found in client.search_experiments()]
    client.restore_experiment(id)


def test_errors_are_the_clients_exceptions(mlflow_client) -> None:
    client = mlflow_client.MlflowClient()
    with pytest.raises(mlflow_client.MlflowException, match="not found") as missing:
        client.get_run("0" * 32)
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    run = client.create_run("0").info.run_id
    client.log_param(run, "p", 1)
    with pytest.raises(mlflow_client.MlflowException, match="Changing param values is not allowed") as changed:
        client.log_param(run, "p", 2)
    assert changed.value.error_code == "INVALID_PARAMETER_VALUE"


def test_artifacts_go_up_are_listed_and_come_down(mlflow_client, tmp_path: Path) -> None:
    mlflow_client.set_experiment("artifacts")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    big = bytes(range(256)) * 20_000
    (folder / "sub" / "big.bin").write_bytes(big)
    (folder / "ä b.txt").write_text("héllo")
    (folder / "empty").write_bytes(b"")
    with mlflow_client.start_run() as run:
        mlflow_client.log_artifacts(str(folder), "things")
        mlflow_client.log_text("hi", "hi.txt")
        mlflow_client.log_dict({"a": 1}, "things/a.json")
    client = mlflow_client.MlflowClient()
    assert [(file.path, file.is_dir, file.file_size) for file in client.list_artifacts(run.info.run_id)] == [
        ("hi.txt", False, 2), ("things", True, None),
    ]  # fmt: skip
    listed = {file.path for file in client.list_artifacts(run.info.run_id, "things")}
    assert listed == {"things/a.json", "things/sub", "things/ä b.txt", "things/empty"}
    down = Path(client.download_artifacts(run.info.run_id, "things", str(tmp_path)))
    assert (down / "sub" / "big.bin").read_bytes() == big
    assert (down / "ä b.txt").read_text() == "héllo"
    assert (down / "empty").read_bytes() == b""


def test_model_is_logged_loaded_registered_and_found(
    mlflow_client, server, server_store, data_folder: Path, loader: str
) -> None:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    frame = pd.DataFrame({"distance": [1.0, 2.0]})
    signature = ModelSignature(inputs=Schema([ColSpec("double", "distance")]), outputs=Schema([ColSpec("double")]))
    mlflow_client.set_experiment("models")
    with mlflow_client.start_run() as run:
        info = mlflow_client.pyfunc.log_model(
            name="model",
            loader_module=loader,
            data_path=str(data_folder),
            signature=signature,
            pip_requirements=["numpy"],
        )
    assert mlflow_client.pyfunc.load_model(info.model_uri).predict(frame) == [5, 5]
    assert mlflow_client.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(frame) == [5, 5]
    client = mlflow_client.MlflowClient()
    (output,) = client.get_run(run.info.run_id).outputs.model_outputs
    assert output.model_id == info.model_id

    first = mlflow_client.register_model(info.model_uri, "wire-model")
    second = client.create_model_version(
        "wire-model", f"models:/{info.model_id}", run.info.run_id, tags={"a": "b"}, model_id=info.model_id
    )
    third = mlflow_client.register_model(f"runs:/{run.info.run_id}/model", "wire-model")
    assert [first.version, second.version, third.version] == ["1", "2", "3"]
    client.set_registered_model_alias("wire-model", "champion", "2")
    assert client.get_model_version_by_alias("wire-model", "champion").tags == {"a": "b"}
    for uri in ("models:/wire-model@champion", "models:/wire-model/1", "models:/wire-model/latest"):
        assert mlflow_client.pyfunc.load_model(uri).predict(frame) == [5, 5]
    assert {found.version for found in client.search_model_versions("name = 'wire-model'")} == {"1", "2", "3"}
    (model,) = client.search_registered_models("name LIKE 'wire-%'")
    assert model.aliases == {"champion": "2"}
    assert model.latest_versions[0].version == "3"

    with server_store.database.read() as connection:
        version = registry.resolve(connection, "models:/wire-model@champion")
        (move,) = registry.alias_history(connection, "wire-model")
    assert version.signature["inputs"][0]["name"] == "distance"
    assert {"MLmodel", "data/payload/booster.txt"} <= {
        file.path for file in read_tree(server_store.blobs, version.digest)
    }
    assert (move.actor, move.to_version) == ("tester", "2")


def test_changing_a_logged_model_does_not_reach_its_version(
    mlflow_client, server, data_folder: Path, loader: str
) -> None:
    mlflow_client.set_experiment("models")
    info = mlflow_client.pyfunc.log_model(name="frozen", loader_module=loader, data_path=str(data_folder))
    mlflow_client.register_model(info.model_uri, "frozen")
    root = mlflow_client.get_logged_model(info.model_id).artifact_location.removeprefix("mlflow-artifacts:/")
    path = f"/api/2.0/mlflow-artifacts/artifacts/{root}/data/payload/booster.txt"
    assert server.call("PUT", path, raw=b"longer trees")[0] == 200
    assert mlflow_client.pyfunc.load_model(info.model_uri).predict([1]) == [12]
    assert mlflow_client.pyfunc.load_model("models:/frozen/1").predict([1]) == [5]


def test_registry_objects_are_managed(mlflow_client, data_folder: Path, loader: str) -> None:
    mlflow_client.set_experiment("models")
    info = mlflow_client.pyfunc.log_model(
        name="managed", loader_module=loader, data_path=str(data_folder), registered_model_name="managed"
    )
    client = mlflow_client.MlflowClient()
    client.update_registered_model("managed", "about it")
    client.set_registered_model_tag("managed", "k", "v")
    client.set_model_version_tag("managed", "1", "k", "v")
    client.update_model_version("managed", "1", "about the version")
    assert client.get_registered_model("managed").tags == {"k": "v"}
    found = client.get_model_version("managed", "1")
    assert (found.tags, found.description, found.current_stage) == ({"k": "v"}, "about the version", "None")
    client.delete_model_version_tag("managed", "1", "k")
    client.delete_registered_model_tag("managed", "k")
    client.set_registered_model_alias("managed", "a", "1")
    client.delete_registered_model_alias("managed", "a")
    with pytest.raises(mlflow_client.MlflowException, match="alias"):
        client.get_model_version_by_alias("managed", "a")
    with pytest.warns(FutureWarning):
        assert client.transition_model_version_stage("managed", "1", "Production").current_stage == "Production"
    client.rename_registered_model("managed", "kept")
    client.delete_model_version("kept", "1")
    client.delete_registered_model("kept")
    models = client.search_logged_models([info_experiment(mlflow_client)], filter_string="name = 'managed'")
    assert [model.model_id for model in models] == [info.model_id]
    client.delete_logged_model(info.model_id)


def test_async_logging_and_what_the_store_knows(mlflow_client, server_store) -> None:
    mlflow_client.set_experiment("async")
    with mlflow_client.start_run() as run:
        for step in range(20):
            mlflow_client.log_metric("loss", step, step=step, synchronous=False)
        mlflow_client.flush_async_logging()
    with server_store.database.read() as connection:
        number = tracking.find_run(connection, run.info.run_id).number
        assert len(tracking.metric_history(connection, number, "loss")) == 20


def info_experiment(mlflow_client) -> str:
    return mlflow_client.get_experiment_by_name("models").experiment_id
