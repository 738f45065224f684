"""Loading models: native numbers, verified bytes, no code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from mainspring.core import Corrupt, NotFound, Refused
from mainspring.serving import ModelReference
from mainspring.serving.mlmodel import tree_digest
from mainspring.serving.models import load_model
from mainspring.serving.validation import check, rows_to_columns


def _reference(folder: Path) -> ModelReference:
    return ModelReference(name="m", version="1", digest=tree_digest(folder), folder=str(folder))


def _rewrite(folder: Path, **flavors: dict[str, object]) -> None:
    document = yaml.safe_load((folder / "MLmodel").read_text())
    document["flavors"] = flavors
    (folder / "MLmodel").write_text(yaml.safe_dump(document))


def test_our_model_predicts_what_lightgbm_predicts(model_folder, rows):
    import lightgbm

    model = load_model(_reference(model_folder))
    checked = check(model.plan, rows_to_columns(rows, model.plan), 3)
    matrix = np.array([[1, 1400, 39, 2, 0], [7, 200, np.nan, 1, np.nan], [12, 2900.5, 12.5, np.nan, 1]], dtype=float)
    expected = lightgbm.Booster(model_file=str(model_folder / "data/flights/booster.txt")).predict(matrix)
    assert model.predict(checked).primary.tolist() == expected.tolist()


def test_mlflow_loads_our_model_and_agrees(model_folder, rows):
    import mlflow.pyfunc
    import pandas as pd

    model = load_model(_reference(model_folder))
    ours = model.predict(check(model.plan, rows_to_columns(rows, model.plan), 3)).primary
    theirs = mlflow.pyfunc.load_model(str(model_folder)).predict(pd.DataFrame(rows))
    assert theirs.tolist() == ours.tolist()


def test_a_plain_lightgbm_model_is_served_natively(tmp_path, rows):
    import lightgbm

    generator = np.random.default_rng(0)
    matrix = generator.random((500, 2))
    booster = lightgbm.train(
        {"objective": "regression", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(matrix, matrix[:, 0]), 5
    )
    booster.save_model(tmp_path / "model.lgb")
    inputs = json.dumps([{"name": "a", "type": "double"}, {"name": "b", "type": "double"}])
    flavors = {"lightgbm": {"data": "model.lgb"}, "python_function": {"loader_module": "mlflow.lightgbm"}}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "signature": {"inputs": inputs}}))
    model = load_model(_reference(tmp_path))
    predicted = model.predict(check(model.plan, {"b": [0.5, 1], "a": [0.1, 0.9]}, 2)).primary
    assert model.platform == "lightgbm"
    assert predicted.tolist() == booster.predict(np.array([[0.1, 0.5], [0.9, 1.0]])).tolist()


def test_a_tampered_model_folder_is_refused(copy_model):
    reference = _reference(copy_model)
    path = copy_model / "data/flights/transform.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(Corrupt, match="digest"):
        load_model(reference)


def test_a_link_in_a_model_folder_is_refused(copy_model):
    (copy_model / "data/more").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="link"):
        tree_digest(copy_model)


def test_a_model_folder_that_is_not_there_is_named(tmp_path):
    reference = ModelReference(name="m", version="1", digest="sha256:" + "0" * 64, folder=str(tmp_path / "no"))
    with pytest.raises(NotFound, match="no model folder"):
        load_model(reference)


@pytest.mark.parametrize(
    ("file", "flavor", "word"),
    [
        ("model.pkl", {"loader_module": "mlflow.sklearn"}, "allow-pickle"),
        ("model.joblib", {"loader_module": "mlflow.sklearn"}, "allow-pickle"),
        ("model.skops", {"loader_module": "mlflow.sklearn"}, "trust"),
        ("notes.txt", {"loader_module": "antigravity"}, "allow-pickle"),
        ("notes.txt", {"loader_module": "mlflow.sklearn", "code": "code"}, "allow-pickle"),
    ],
)
def test_a_model_that_can_run_code_is_refused(copy_model, file, flavor, word):
    (copy_model / file).write_bytes(b"x")
    _rewrite(copy_model, python_function=flavor)
    with pytest.raises(Refused, match=word):
        load_model(_reference(copy_model))


def test_a_pickled_model_is_served_once_the_operator_allows_it(tmp_path):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Double(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["a"].to_numpy() * 2

    frame = pd.DataFrame({"a": [1.0, 2.0]})
    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(folder, python_model=Double(), signature=infer_signature(frame), pip_requirements=[])
    with pytest.raises(Refused, match="allow-pickle"):
        load_model(_reference(folder))
    model = load_model(_reference(folder), allow_pickle=True)
    assert model.predict(check(model.plan, {"a": [4, 5]}, 2)).primary.tolist() == [8.0, 10.0]


def test_data_outside_the_folder_is_refused(copy_model):
    _rewrite(copy_model, python_function={"loader_module": "mainspring.serving.pyfunc", "data": "../../etc"})
    with pytest.raises(Exception, match="not allowed"):
        load_model(_reference(copy_model))


def test_a_model_that_mlflow_saved_with_our_loader_is_served_without_mlflow(model_folder, tmp_path, rows):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    folder = tmp_path / "saved"
    mlflow.pyfunc.save_model(
        folder,
        loader_module="mainspring.serving.pyfunc",
        data_path=str(model_folder / "data/flights"),
        signature=infer_signature(pd.DataFrame(rows)),
        pip_requirements=["mainspring"],
    )
    model = load_model(_reference(folder))
    ours = load_model(_reference(model_folder))
    columns = rows_to_columns(rows, model.plan)
    assert model.platform == "mainspring"
    assert (
        model.predict(check(model.plan, columns, 3)).primary.tolist()
        == ours.predict(check(ours.plan, columns, 3)).primary.tolist()
    )
