"""PyTorch and Keras models, where PyTorch is installed."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mainspring.core import Refused
from mainspring.serving.validation import check, check_rows

torch = pytest.importorskip("torch", reason="PyTorch is not installed here")

INPUTS = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]


SECTION = {"model_data": "data"}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))


def _rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def _expected(net):
    with torch.no_grad():
        return net(torch.from_numpy(_rows())).numpy()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def exported(net, tmp_path):
    path = tmp_path / "exported.pt2"
    shape = {"x": {0: torch.export.Dim("rows")}}
    torch.export.save(torch.export.export(net, (torch.from_numpy(_rows()),), dynamic_shapes=shape), path)
    return path.read_bytes()


def test_an_exported_program_is_served(net, exported, write_model, load):
    flavor = {"model_data": "data"}
    model = load(write_model({"data/model.pt2": exported}, inputs=INPUTS, loader="mlflow.pytorch", pytorch=flavor))
    assert model.platform == "pytorch_export"
    found = model.predict(check_rows(model.plan, _rows().tolist())).primary
    np.testing.assert_allclose(found, _expected(net), rtol=1e-6)


def test_a_model_that_mlflow_saved_is_served(net, tmp_path, load):
    mlflow_pytorch = pytest.importorskip("mlflow.pytorch")
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    rows = _rows()
    schemas = [Schema([TensorSpec(np.dtype("float32"), (-1, size))]) for size in (3, 2)]
    options = {"signature": ModelSignature(*schemas), "input_example": rows, "pip_requirements": []}
    mlflow_pytorch.save_model(net, tmp_path / "saved", serialization_format="pt2", **options)
    model = load(tmp_path / "saved")
    found = model.predict(check_rows(model.plan, rows.tolist())).primary
    np.testing.assert_allclose(found, _expected(net), rtol=1e-6)


def test_torchscript_is_served(net, write_model, load):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    files = {"data/model.pth": buffer.getvalue()}
    inputs = [{"name": name, "type": "double"} for name in "abc"]
    model = load(write_model(files, inputs=inputs, loader="mlflow.pytorch", pytorch={"model_data": "data"}))
    assert model.platform == "pytorch_torchscript"
    checked = check(model.plan, dict(zip("abc", _rows().T.astype(float).tolist(), strict=True)), 5)
    np.testing.assert_allclose(model.predict(checked).primary, _expected(net), rtol=1e-6)


def test_torchscript_that_reads_a_file_is_refused(write_model, load):
    class Reader(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_file("/etc/passwd", False, 8, dtype=torch.uint8)

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Reader()), buffer)
    files = {"data/model.pth": buffer.getvalue()}
    with pytest.raises(Refused, match="from_file"):
        load(write_model(files, inputs=INPUTS, loader="mlflow.pytorch", pytorch={"model_data": "data"}))


class Harm:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_an_exported_program_with_a_pickle_inside_is_refused(exported, tmp_path, write_model, load):
    marker = tmp_path / "harm-was-done"
    buffer = io.BytesIO()
    torch.save(Harm(marker), buffer)
    evil = io.BytesIO()
    changed = 0
    with zipfile.ZipFile(io.BytesIO(exported)) as source, zipfile.ZipFile(evil, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            if "sample_inputs" in info.filename and not info.is_dir():
                content, changed = buffer.getvalue(), changed + 1
            target.writestr(info.filename, content)
    assert changed
    with pytest.raises(Refused, match="neither plain data nor tensors"):
        load(write_model({"data/model.pt2": evil.getvalue()}, inputs=INPUTS, loader="mlflow.pytorch", pytorch=SECTION))
    assert not marker.exists()
    path = tmp_path / "evil.pt2"
    path.write_bytes(evil.getvalue())
    with contextlib.suppress(Exception):
        torch.export.load(str(path))
    assert marker.exists(), "the file of this test must be one that does harm"


def test_a_weights_entry_that_asks_to_be_unpickled_is_refused(exported, tmp_path, write_model, load):
    marker = tmp_path / "harm-was-done"
    evil = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(exported)) as source, zipfile.ZipFile(evil, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith("weights_config.json"):
                document = json.loads(content)
                for entry in document["config"].values():
                    entry["use_pickle"] = True
                content = json.dumps(document).encode()
            elif "/data/weights/weight_" in info.filename:
                content = pickle.dumps(Harm(marker))
            target.writestr(info.filename, content)
    with pytest.raises(Refused, match="neither plain data nor tensors"):
        load(write_model({"data/model.pt2": evil.getvalue()}, inputs=INPUTS, loader="mlflow.pytorch", pytorch=SECTION))
    assert not marker.exists()


def test_a_pickled_module_is_loaded_with_permission_only(net, write_model, load):
    buffer = io.BytesIO()
    torch.save(torch.nn.Sequential(net.layer, torch.nn.ReLU()), buffer)
    folder = write_model(
        {"data/model.pth": buffer.getvalue()}, inputs=INPUTS, loader="mlflow.pytorch", pytorch={"model_data": "data"}
    )
    with pytest.raises(Refused, match="allow-pickle"):
        load(folder)
    model = load(folder, allow_pickle=True)
    found = model.predict(check_rows(model.plan, _rows().tolist())).primary
    np.testing.assert_allclose(found, _expected(net), rtol=1e-6)


def test_a_keras_model_is_served_and_its_lambdas_are_not(tmp_path, write_model, load, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed here")
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    net = keras.Sequential(layers)
    net.save(tmp_path / "net.keras")
    files = {"data/model.keras": (tmp_path / "net.keras").read_bytes()}
    model = load(write_model(files, inputs=INPUTS, loader="mlflow.keras", keras={"data": "data"}))
    expected = net.predict(_rows(), verbose=0)
    found = model.predict(check_rows(model.plan, _rows().tolist())).primary
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x)]).save(tmp_path / "evil.keras")
    files = {"data/model.keras": (tmp_path / "evil.keras").read_bytes()}
    with pytest.raises(Refused, match="run any code"):
        load(write_model(files, inputs=INPUTS, name="evil", loader="mlflow.keras", keras={"data": "data"}))
