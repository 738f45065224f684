"""Model files made to do harm: each is refused before it does anything, with a file that would have done it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from mainspring.core import Corrupt, InvalidInput, Refused, Unavailable
from mainspring.serving import ModelReference
from mainspring.serving.mlmodel import tree_digest
from mainspring.serving.models import load_model
from mainspring.serving.runtimes.memory import available_memory, require_memory
from mainspring.serving.validation import check


class Harm:
    """An object that makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "harm-was-done"


@pytest.fixture
def harm(marker):
    return pickle.dumps(Harm(marker))


FLAVORS = {
    "sklearn pickle": ("model.pkl", "mlflow.sklearn", {"sklearn": {"pickled_model": "model.pkl"}}),
    "sklearn joblib": ("model.joblib", "mlflow.sklearn", {"sklearn": {"pickled_model": "model.joblib"}}),
    "lightgbm pickle": ("model.pkl", "mlflow.lightgbm", {"lightgbm": {"data": "model.pkl"}}),
    "python model": ("python_model.pkl", "mlflow.pyfunc.model", {}),
    "torch pickle": ("data/model.pth", "mlflow.pytorch", {"pytorch": {"model_data": "data"}}),
    "keras objects": ("data/custom_objects.cloudpickle", "mlflow.keras", {"keras": {"data": "data"}}),
}


@pytest.mark.parametrize("kind", FLAVORS)
def test_a_pickle_is_not_opened_without_permission(kind, write_model, load, harm, marker):
    file, loader, flavors = FLAVORS[kind]
    files = {file: harm} | ({"data/model.keras": b"x"} if "keras" in kind else {})
    inputs = [{"name": "a", "type": "double"}]
    with pytest.raises(Refused, match="allow-pickle"):
        load(write_model(files, loader=loader, inputs=inputs, **flavors))
    assert not marker.exists()


def test_the_pickle_of_these_tests_does_harm_where_it_is_allowed(write_model, load, harm, marker):
    file, loader, flavors = FLAVORS["sklearn pickle"]
    with pytest.raises((Refused, Unavailable, Corrupt)):
        load(write_model({file: harm}, loader=loader, **flavors), allow_pickle=True)
    assert marker.exists()


def test_a_pickle_that_is_called_skops_is_not_opened(write_model, load, harm, marker):
    flavor = {"pickled_model": "model.skops", "serialization_format": "skops"}
    with pytest.raises(Corrupt, match="not a skops file"):
        load(write_model({"model.skops": harm}, loader="mlflow.sklearn", sklearn=flavor))
    assert not marker.exists()


@pytest.mark.parametrize("section", [{"loader_module": "os"}, {"loader_module": "mlflow.sklearn", "code": "code"}])
def test_loaders_and_code_of_the_models_own_are_not_run(section, write_model, load, marker):
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n".encode()
    folder = write_model({"code/evil.py": code}, python_function=section, sklearn={"pickled_model": "x.skops"})
    with pytest.raises(Refused, match="allow-pickle"):
        load(folder)
    assert not marker.exists()


def test_skops_types_are_trusted_by_the_server_and_not_by_the_model(write_sklearn, load):
    import os

    from sklearn.preprocessing import FunctionTransformer

    evil = FunctionTransformer(func=os.system)
    folder = write_sklearn(evil, [{"name": "a", "type": "string"}])
    document = yaml.safe_load((folder / "MLmodel").read_text())
    document["flavors"]["sklearn"]["skops_trusted_types"] = ["posix.system"]
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    with pytest.raises(Refused, match=r"the type posix.system.*--trust-type posix.system"):
        load(folder)


def test_a_type_the_operator_trusts_is_loaded(data, write_sklearn, load):
    import lightgbm
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    booster = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, n_jobs=1)
    fitted = make_pipeline(StandardScaler(), booster).fit(data.frame, data.labels)
    folder = write_sklearn(fitted, data.inputs)
    with pytest.raises(Refused, match=r"collections\.OrderedDict.*nor 2 more.*--trust-type collections\.OrderedDict"):
        load(folder)
    types = ("collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier")
    model = load(folder, trust_types=types)
    found = model.predict(check(model.plan, data.columns, 40)).primary
    assert found.tolist() == fitted.predict(data.asked).tolist()


def _edit_skops(folder, change_node=None, change_array=None):
    """Change the first tree of a skops file: its description, or one of its arrays."""
    path = folder / "model.skops"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    waiting, node = [schema], None
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, dict):
            if one.get("__class__") in ("Tree", "TreePredictor"):
                node = one
                break
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    if change_node:
        change_node(node)
        members["schema.json"] = json.dumps(schema).encode()
    if change_array:
        content = node["content"]["content"]
        file = content["nodes"]["file"]
        array = np.load(io.BytesIO(members[file]))
        change_array(array)
        buffer = io.BytesIO()
        np.save(buffer, array)
        members[file] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _set(field, value):
    def change(nodes):
        nodes[field][0] = value

    return change


def _outputs(value):
    def change(node):
        node["__reduce__"]["args"]["content"][2] |= {"content": value, "__id__": 1}

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"change_array": _set("left_child", 1 << 40)}, "a node that is not there"),
        ({"change_array": _set("right_child", -7)}, "a node that is not there"),
        ({"change_array": _set("right_child", 0)}, "a node that is not there"),
        ({"change_array": _set("feature", 4)}, "a feature that is not there"),
        ({"change_array": _set("feature", -(1 << 40))}, "a feature that is not there"),
        ({"change_node": _outputs("100000000")}, "outputs are not there"),
    ],
)
def test_a_tree_that_points_outside_itself_is_refused(change, problem, data, forest, write_sklearn, load):
    folder = write_sklearn(forest, data.inputs)
    assert load(folder).platform == "sklearn"
    _edit_skops(folder, **change)
    with pytest.raises(Corrupt, match=problem):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value"), [("left", 4_000_000_000), ("right", 0), ("feature_idx", 99), ("feature_idx", -1)]
)
def test_a_histogram_tree_that_points_outside_itself_is_refused(field, value, data, histogram, write_sklearn, load):
    folder = write_sklearn(histogram, data.inputs)
    assert load(folder).platform == "sklearn"
    _edit_skops(folder, change_array=_set(field, value))
    with pytest.raises(Corrupt, match="not there"):
        load(folder)


def test_an_ensemble_that_says_it_has_fewer_features_than_its_trees_is_refused(data, forest, write_sklearn, load):
    import copy

    liar = copy.deepcopy(forest)
    liar.n_features_in_ = 2
    with pytest.raises(Corrupt, match="other features"):
        load(write_sklearn(liar, data.inputs[:2]))


def test_support_vectors_that_are_not_there_are_refused(data, write_sklearn, load):
    from sklearn.svm import SVC

    fitted = SVC().fit(data.frame, data.labels)
    folder = write_sklearn(fitted, data.inputs)
    expected = fitted.predict(data.asked)
    model = load(folder)
    assert model.predict(check(model.plan, data.columns, 40)).primary.tolist() == expected.tolist()
    fitted._n_support = np.array([1 << 28, 1 << 28], dtype=np.int32)
    with pytest.raises(Corrupt, match="vectors that are not there"):
        load(write_sklearn(fitted, data.inputs, name="liar"))


def test_neighbours_clusters_and_encoders_that_lie_are_refused(data, mixed, write_sklearn, load):
    import copy

    from sklearn.cluster import KMeans
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import OneHotEncoder

    neighbors = KNeighborsClassifier(algorithm="brute").fit(data.frame, data.labels)
    clusters = KMeans(2, n_init=1).fit(data.frame)
    encoder = OneHotEncoder().fit(mixed.frame[["carrier"]])
    lies = (
        (neighbors, "_y", neighbors._y + (1 << 40), data.inputs),
        (neighbors, "_fit_X", neighbors._fit_X[:, :2].copy(), data.inputs),
        (clusters, "cluster_centers_", clusters.cluster_centers_[:, :1].copy(), data.inputs),
        (encoder, "_n_features_outs", [1], mixed.inputs[:1]),
    )
    for number, (honest, name, lie, inputs) in enumerate(lies):
        assert load(write_sklearn(honest, inputs, name=f"honest-{number}")).platform == "sklearn"
        liar = copy.deepcopy(honest)
        setattr(liar, name, lie)
        with pytest.raises(Corrupt, match="The model is damaged"):
            load(write_sklearn(liar, inputs, name=f"liar-{number}"))


def test_a_vocabulary_with_places_that_are_not_there_is_refused(write_sklearn, load):
    from sklearn.feature_extraction.text import CountVectorizer

    fitted = CountVectorizer().fit(["one two", "two three"])
    fitted.vocabulary_["two"] = 1 << 30
    with pytest.raises(Corrupt, match="vocabulary"):
        load(write_sklearn(fitted, [{"name": "text", "type": "string"}]))


@pytest.fixture(scope="session")
def booster_text(data):
    import lightgbm

    dataset = lightgbm.Dataset(data.matrix, data.labels)
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    return lightgbm.train(parameters, dataset, 3).model_to_string()


@pytest.mark.parametrize(
    ("field", "value"),
    [("split_feature", "4000"), ("split_feature", "-3"), ("left_child", "99999"), ("right_child", "-99999")],
)
def test_a_lightgbm_tree_that_points_outside_itself_is_refused(field, value, booster_text, data, write_model, load):
    lines = booster_text.split("\n")
    place = next(n for n, line in enumerate(lines) if line.startswith(f"{field}="))
    values = lines[place].partition("=")[2].split()
    lines[place] = f"{field}=" + " ".join([value, *values[1:]])
    folder = write_model({"m.lgb": "\n".join(lines).encode()}, inputs=data.inputs, lightgbm={"data": "m.lgb"})
    with pytest.raises(Corrupt, match="damaged"):
        load(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_class=1", "num_class=900"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3"),
        ("objective=binary sigmoid:1", "objective=multiclass num_class:4000"),
    ],
)
def test_a_lightgbm_model_that_writes_more_than_it_says_is_refused(old, new, booster_text, data, write_model, load):
    assert old in booster_text
    folder = write_model(
        {"m.lgb": booster_text.replace(old, new, 1).encode()}, inputs=data.inputs, lightgbm={"data": "m.lgb"}
    )
    with pytest.raises(Corrupt, match="damaged"):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value"), [("split_indices", 4000), ("left_children", 99999), ("right_children", 0), ("tree_info", 7)]
)
def test_an_xgboost_tree_that_points_outside_itself_is_refused(field, value, data, write_model, load):
    import xgboost

    matrix = xgboost.DMatrix(data.matrix, data.labels)
    document = json.loads(bytes(xgboost.train({"max_depth": 2}, matrix, 2).save_raw("json")))
    model = document["learner"]["gradient_booster"]["model"]
    (model if field == "tree_info" else model["trees"][0])[field][0] = value
    folder = write_model({"m.json": json.dumps(document).encode()}, inputs=data.inputs, xgboost={"data": "m.json"})
    with pytest.raises(Corrupt):
        load(folder)


def test_bytes_that_are_no_model_are_refused(data, write_model, load):
    for flavor, file in (("xgboost", "m.ubj"), ("lightgbm", "m.lgb"), ("onnx", "m.onnx")):
        for number, content in enumerate((b"", b"\x00" * 100, b"tree\nnonsense", b"\xff" * 1000)):
            folder = write_model(
                {file: content}, inputs=data.inputs, name=f"{flavor}-{number}", **{flavor: {"data": file}}
            )
            with pytest.raises((Corrupt, Refused)):
                load(folder)


def _external(location):
    """Make an ONNX model whose weight is kept in another file."""
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], initializer=[weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "data/../../secret.bin", "missing.bin"])
def test_onnx_data_outside_the_folder_is_refused(location, tmp_path, write_model, load):
    (tmp_path / "secret.bin").write_bytes(b"\x00" * 8)
    with pytest.raises(Refused, match="keeps data"):
        load(write_model({"m.onnx": _external(location)}, onnx={"data": "m.onnx"}))


def test_onnx_data_inside_the_folder_is_read(write_model, load):
    weights = np.array([1.0, 2.0], dtype="<f4").tobytes()
    model = load(write_model({"m.onnx": _external("weights.bin"), "weights.bin": weights}, onnx={"data": "m.onnx"}))
    assert model.predict(check(model.plan, {"x": [[1, 1]]}, 1)).primary.tolist() == [[2.0, 3.0]]


def test_external_data_is_found_in_nested_graphs(write_model, load):
    from onnx import ModelProto, TensorProto, helper

    inner = ModelProto.FromString(_external("/etc/passwd")).graph
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "g", [condition], [y])
    data = helper.make_model(graph).SerializeToString()
    with pytest.raises(Refused, match="/etc/passwd"):
        load(write_model({"m.onnx": data}, onnx={"data": "m.onnx"}))


@pytest.mark.parametrize("path", ["../m.lgb", "/etc/passwd", "a/../../m.lgb"])
def test_data_outside_the_folder_is_not_read(path, tmp_path, write_model, load, booster_text):
    (tmp_path / "m.lgb").write_text(booster_text)
    with pytest.raises(InvalidInput):
        load(write_model({}, lightgbm={"data": path}))


def test_links_are_refused(tmp_path, write_model, load):
    folder = write_model({"m.lgb": b"tree"}, lightgbm={"data": "m.lgb"})
    (folder / "m.lgb").unlink()
    (folder / "m.lgb").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="link"):
        load(folder)


@pytest.mark.parametrize("change", ["signature", "weights", "one more file"])
def test_a_model_that_is_not_what_was_registered_is_refused(change, data, write_model, booster_text):
    folder = write_model({"m.lgb": booster_text.encode()}, inputs=data.inputs, lightgbm={"data": "m.lgb"})
    reference = ModelReference(name="m", version="1", digest=tree_digest(folder), folder=str(folder))
    assert load_model(reference).platform == "lightgbm"
    if change == "signature":
        text = (folder / "MLmodel").read_text()
        (folder / "MLmodel").write_text(text.replace('\\"a\\"', '\\"b\\"').replace('"a"', '"z"'))
    elif change == "weights":
        (folder / "m.lgb").write_text(booster_text.replace("shrinkage=", "shrinkage=1", 1))
    else:
        (folder / "extra").write_bytes(b"")
    with pytest.raises(Corrupt, match="digest"):
        load_model(reference)


def _keras(config):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "keras.layers", "class_name": "Lambda", "config": {}},
        {"module": "os", "class_name": "system", "config": {}},
        {"module": "keras.src.layers", "class_name": "__lambda__", "config": {"code": "4wEAAAA="}},
        {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}},
        {"class_name": "Mine", "registered_name": "evil>Mine", "config": {}},
    ],
)
def test_a_keras_model_that_runs_code_or_reads_files_is_refused(layer, write_model, load):
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    folder = write_model({"data/model.keras": _keras(config)}, loader="mlflow.keras", keras={"data": "data"})
    with pytest.raises(Refused):
        load(folder)


@pytest.mark.parametrize("code", ["torch.from_file('/etc/passwd')", "ops.evil.run(x)", "torch.save(x, 'y')"])
def test_torchscript_that_leaves_pytorchs_operators_is_refused(code, write_model, load):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/code/__torch__.py", f"def forward(self, x):\n  return {code}\n")
        archive.writestr("model/constants.pkl", b"")
    files = {"data/model.pth": buffer.getvalue()}
    with pytest.raises(Refused, match="not an operator"):
        load(write_model(files, loader="mlflow.pytorch", pytorch={"model_data": "data"}))


def test_the_memory_that_is_left_is_the_machines_or_the_containers(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable:     500 kB\n")
    assert available_memory(meminfo, tmp_path) == 500 << 10
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert available_memory(meminfo, tmp_path) == 200_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(meminfo, tmp_path) == 500 << 10
    assert available_memory(tmp_path / "none", tmp_path / "none") is None


def test_a_model_bigger_than_memory_is_refused_before_it_is_read(write_model, load, booster_text, monkeypatch):
    folder = write_model({"m.lgb": booster_text.encode()}, lightgbm={"data": "m.lgb"})
    monkeypatch.setattr("mainspring.serving.runtimes.memory.available_memory", lambda: 1000)
    with pytest.raises(Unavailable, match="the memory that is left"):
        load(folder)
    with pytest.raises(Unavailable):
        require_memory(1001, "it")
