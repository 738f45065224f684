"""Keras models in Keras' own ``.keras`` format, whose configuration is audited first; SavedModels with permission."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mainspring.core import Corrupt, Foreign, Refused, Unavailable
from mainspring.serving.checked import Checked
from mainspring.serving.mlmodel import data_path
from mainspring.serving.outputs import PREDICT, Outputs
from mainspring.serving.plan import Tensor, tensor_plan
from mainspring.serving.runtimes import pyfunc
from mainspring.serving.runtimes.interface import Runtime, Source

PLATFORM = "keras"
_RUNS_CODE = frozenset({"Lambda", "TorchModuleWrapper", "TFSMLayer", "FlaxLayer", "JaxLayer", "function"})
_READS_FILES = frozenset({"vocabulary", "filepath", "file_path"})
_MAX_CONFIG = 256 << 20


def load(source: Source) -> Runtime:
    """Load a model of MLflow's keras or tensorflow flavour."""
    section = source.flavor("keras") or source.flavor("tensorflow")
    folder = data_path(source.folder, {"data": section.get("data", "data")})
    path = next((one for one in (folder / "model.keras", folder.with_suffix(".keras")) if one.is_file()), None)
    if path is None:
        # A SavedModel is a program: it can read and write files.
        source.require_pickle("a TensorFlow SavedModel")
        return pyfunc.load(source)
    if any(folder.glob("*.cloudpickle")):
        source.require_pickle("custom_objects.cloudpickle")
        return pyfunc.load(source)
    audit(path)
    return _runtime(source, _open(source, path))


def audit(path: Path) -> None:
    """Refuse a model whose configuration names anything but Keras' own layers, code, or files to read."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("config.json")
            if info.file_size > _MAX_CONFIG:
                raise Refused(f"{path.name} has a configuration of {info.file_size >> 20} MB.")
            config = json.loads(archive.read(info))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise Corrupt(f"{path.name} is not a Keras model.") from error
    for one in _objects(config):
        module, kind = one.get("module"), one.get("class_name")
        if isinstance(kind, str) and (kind in _RUNS_CODE or kind.startswith("__")):
            raise Refused(f"{path.name} holds a {kind}, which can run any code.")
        if isinstance(module, str) and module.partition(".")[0] not in ("keras", "builtins"):
            raise Refused(f"{path.name} names {module[:60]}, which is not part of Keras.")
        if one.get("registered_name") and not module:
            raise Refused(f"{path.name} holds {str(one['registered_name'])[:60]}, which is not part of Keras.")
        for key in _READS_FILES & one.keys():
            if isinstance(one[key], str):
                raise Refused(f"{path.name} reads the file {one[key][:60]!r}, which is not part of the model.")


def _objects(config: object) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _open(source: Source, path: Path) -> Foreign:  # an optional library
    try:
        # Late: seconds and hundreds of MB, for models of this kind.
        keras: Any = importlib.import_module("keras")
    except ImportError as error:
        raise Unavailable(f"Model {source.name} needs Keras: {error}.", hint="pip install keras tensorflow") from error
    try:
        return keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:  # keras raises what its parts raise
        raise Unavailable(
            f"Model {source.name} cannot be loaded: {type(error).__name__}: {str(error).splitlines()[0][:300]}",
            hint="Install the Keras it was made with; what answered before goes on answering.",
        ) from error


def _runtime(source: Source, model: Foreign) -> Runtime:  # an optional library
    keras: Any = importlib.import_module("keras")
    plan = source.plan or tensor_plan(
        Tensor(name=one.name, dtype=str(one.dtype), shape=(-1, *(size or -1 for size in one.shape[1:])))
        for one in model.inputs
    )

    def predict(checked: Checked) -> Outputs:
        arrays = (
            [np.asarray(checked.to_matrix(), dtype=np.float32)]
            if plan.columns
            else [np.asarray(checked[name]) for name in plan.names]
        )
        found = model(arrays[0] if len(arrays) == 1 else arrays, training=False)
        parts = found if isinstance(found, Mapping) else {PREDICT: found}
        if isinstance(found, list | tuple):
            parts = {f"output_{place}": one for place, one in enumerate(found)}
        names = tuple(map(str, parts))
        return Outputs(names, tuple(np.asarray(keras.ops.convert_to_numpy(one)) for one in parts.values()))

    return Runtime(PLATFORM, plan, predict)
