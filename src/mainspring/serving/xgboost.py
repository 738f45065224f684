"""XGBoost models through the library's C interface.

Importing the ``xgboost`` package pulls in scikit-learn, scipy and pandas; an endpoint needs a dozen functions of the
shared library that the package brings, and gets the same numbers from them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Foreign, Unavailable
from mainspring.serving.ubjson import read_ubjson

_VALUE, _MARGIN, _CONTRIBUTIONS = 0, 1, 2
_PER_NODE = (
    "left_children",
    "right_children",
    "parents",
    "split_indices",
    "split_conditions",
    "split_type",
    "default_left",
    "base_weights",
    "loss_changes",
    "sum_hessian",
)
_NUMBER = re.compile(r"\[?[-+0-9.eE]{1,40}(,[-+0-9.eE]{1,40})*\]?")
_MAX_FEATURES = 1 << 24
_NO_PARENT = 2**31 - 1
_CHILDREN = ("left_children", "right_children")


class XGBooster:
    """An XGBoost model read from its JSON or UBJSON form."""

    def __init__(self, data: bytes) -> None:
        learner = read_learner(data)
        self.features = int(learner["learner_model_param"]["num_feature"])
        """Columns a row must have."""
        self._library = _library()
        self._handle = ctypes.c_void_p()
        self._call("XGBoosterCreate", None, ctypes.c_uint64(0), ctypes.byref(self._handle))
        # Only what was checked is given to the library, which ends the process on much that is damaged.
        text = write_learner(learner)
        self._call("XGBoosterLoadModelFromBuffer", self._handle, text, ctypes.c_uint64(len(text)))
        self._call("XGBoosterSetParam", self._handle, b"nthread", b"1")
        self.objective = str(learner["objective"]["name"])
        self.feature_names: tuple[str, ...] = tuple(learner.get("feature_names") or ())
        self.feature_types: tuple[str, ...] = tuple(learner.get("feature_types") or ())
        self._is_tree = learner["gradient_booster"]["name"] in ("gbtree", "dart")
        best = (learner.get("attributes") or {}).get("best_iteration")
        self.rounds = int(best) + 1 if best is not None else 0
        """Iterations that scikit-learn's interface uses: up to the best one, or 0 for all."""

    def predict(self, matrix: NDArray[Any], *, rounds: int = 0) -> NDArray[np.float32]:
        """Predict rows (NaN = missing): shape (n,), or (n, classes) for several classes."""
        matrix = self._checked(matrix)
        if not self._is_tree:
            return self._predict_slowly(matrix, _VALUE, rounds)
        shape, dim = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        result = ctypes.POINTER(ctypes.c_float)()
        self._call(
            "XGBoosterPredictFromDense",
            self._handle,
            _array_interface(matrix),
            _config(_VALUE, rounds),
            None,
            ctypes.byref(shape),
            ctypes.byref(dim),
            ctypes.byref(result),
        )
        return _copy(result, shape, dim.value)

    def predict_margin(self, matrix: NDArray[Any], *, rounds: int = 0) -> NDArray[np.float32]:
        """Predict scores before the objective's last step."""
        return self._predict_slowly(self._checked(matrix), _MARGIN, rounds)

    def contributions(self, matrix: NDArray[Any], *, rounds: int = 0) -> NDArray[np.float32]:
        """Return each feature's part of the margin and, last, the base value: shape (n, classes, features + 1)."""
        found = self._predict_slowly(self._checked(matrix), _CONTRIBUTIONS, rounds)
        return found.reshape(len(matrix), -1, self.features + 1)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.XGBoosterFree(self._handle)

    def _checked(self, matrix: NDArray[Any]) -> NDArray[Any]:
        if matrix.ndim != 2 or matrix.shape[1] != self.features:
            raise Corrupt(f"The model has {self.features} features, it was given {matrix.shape[-1]}.")
        return np.ascontiguousarray(matrix, dtype=np.float32 if matrix.dtype == np.float32 else np.float64)

    def _predict_slowly(self, matrix: NDArray[Any], kind: int, rounds: int) -> NDArray[np.float32]:
        """Predict through the library's own matrix: what the quick way does not offer."""
        data = ctypes.c_void_p()
        config = b'{"missing": NaN, "nthread": 1}'
        self._call("XGDMatrixCreateFromDense", _array_interface(matrix), config, ctypes.byref(data))
        try:
            shape, dim = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
            result = ctypes.POINTER(ctypes.c_float)()
            self._call(
                "XGBoosterPredictFromDMatrix",
                self._handle,
                data,
                _config(kind, rounds),
                ctypes.byref(shape),
                ctypes.byref(dim),
                ctypes.byref(result),
            )
            return _copy(result, shape, dim.value)
        finally:
            self._library.XGDMatrixFree(data)

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._library, function)(*arguments) != 0:
            message = self._library.XGBGetLastError().decode(errors="replace")
            raise Corrupt(f"XGBoost cannot use the model: {_first_line(message)[:300]}")


def read_learner(data: bytes) -> dict[str, Any]:
    """Return the learner of a model in JSON or UBJSON; raise `Corrupt` if it is damaged.

    The library follows what a file says without looking, and ends the process on a file that is neither.
    """
    try:
        is_json = data[:1] == b"{" and data[1:2] in (b'"', b" ", b"\n", b"\r", b"\t")
        document = json.loads(data, object_pairs_hook=_once) if is_json else read_ubjson(data)
        learner: dict[str, Any] = document["learner"]
        features = int(learner["learner_model_param"]["num_feature"])
        _check_parameters(learner["learner_model_param"])
        booster = learner["gradient_booster"]
        if booster["name"] not in ("gbtree", "dart", "gblinear") or not isinstance(learner["objective"]["name"], str):
            raise ValueError("it has an unknown booster")
        inner = booster["gbtree"] if booster["name"] == "dart" else booster
        if booster["name"] == "gblinear":
            _check_weights(booster["model"], features, learner)
        else:
            check_trees(inner["model"], features, max(1, int(learner["learner_model_param"]["num_class"])))
            if "weight_drop" in booster and len(booster["weight_drop"]) != len(inner["model"]["trees"]):
                raise ValueError("it has not as many weights as trees")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise Corrupt(f"The XGBoost model is damaged: {str(error)[:100]}.") from error
    return learner


def write_learner(learner: Mapping[str, Any]) -> bytes:
    """Write a learner as a model in JSON."""
    return b'{"learner": %b, "version": [2, 1, 0]}' % _to_json(learner)


def _to_json(value: Foreign) -> bytes:  # any part of a document
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise Corrupt("The XGBoost model is damaged: a number is not finite.")
        # The shortest text that reads as the same number of single precision.
        plain = value.astype(np.float32) if value.dtype.kind == "f" else value.astype(np.int64)
        return b"[%b]" % ",".join(map(str, plain.astype(str).tolist())).encode()
    if isinstance(value, dict):
        return b"{%b}" % b",".join(b"%b:%b" % (msgspec.json.encode(key), _to_json(one)) for key, one in value.items())
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(_to_json, value))
    return msgspec.json.encode(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose keys are there once: two readers could choose different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _check_parameters(parameters: dict[str, Any]) -> None:
    """Check the model's sizes: texts of numbers, with one target."""
    for name, text in parameters.items():
        if not isinstance(text, str) or not _NUMBER.fullmatch(text):
            raise ValueError(f"its {name[:40]} is not a number")
    features, classes = int(parameters["num_feature"]), int(parameters["num_class"])
    if not 0 < features < _MAX_FEATURES or not 0 <= classes < _MAX_FEATURES:
        raise ValueError("it has an impossible number of features or classes")
    if int(parameters.get("num_target", "1")) > 1:
        raise ValueError("it has several targets, which are not served")


def _check_weights(model: dict[str, Any], features: int, learner: dict[str, Any]) -> None:
    groups = max(1, int(learner["learner_model_param"]["num_class"]))
    if len(model["weights"]) != (features + 1) * groups:
        raise ValueError("it has a wrong number of weights")


def check_trees(model: dict[str, Any], features: int, groups: int) -> None:
    """Check every index in the trees of a model; raise `ValueError` for one that points to nothing."""
    trees = model["trees"]
    if len(model["tree_info"]) != len(trees) or int(model["gbtree_model_param"]["num_trees"]) != len(trees):
        raise ValueError("it has not as many trees as it says")
    group = np.asarray(model["tree_info"], dtype=np.int64)
    if (group < 0).any() or (group >= groups).any():
        raise ValueError("a tree belongs to a class that is not there")
    for tree in trees:
        _check_tree(tree, features)


def _check_tree(tree: dict[str, Any], features: int) -> None:
    left, right = (np.asarray(tree[name], dtype=np.int64) for name in _CHILDREN)
    split = np.asarray(tree["split_indices"], dtype=np.int64)
    nodes = len(left)
    if nodes == 0 or nodes != int(tree["tree_param"]["num_nodes"]):
        raise ValueError("a tree has not as many nodes as it says")
    if any(len(tree[name]) != nodes for name in _PER_NODE if name in tree):
        raise ValueError("a tree has lists of different lengths")
    if len(tree.get("categories", ())) or np.any(tree.get("split_type", 0)):
        raise ValueError("a tree splits on categories, which are not served")
    if int(tree["tree_param"].get("size_leaf_vector", 0)) > 1:
        raise ValueError("a tree has vectors in its leaves, which are not served")
    inner = left != -1
    places = np.arange(nodes)
    for child in (left, right):
        if ((child < 0) & inner).any() or (child >= nodes).any() or ((child <= places) & inner).any():
            raise ValueError("a tree points to a node that is not there")
    _check_parents(np.asarray(tree["parents"], dtype=np.int64), left, right, inner)
    if (split[inner] < 0).any() or (split[inner] >= features).any():
        raise ValueError(f"a tree splits on a feature beyond {features}")


def _check_parents(parents: NDArray[np.int64], left: Foreign, right: Foreign, inner: Foreign) -> None:  # arrays
    """Check the way up: the library walks it while it loads."""
    places = np.flatnonzero(inner)
    if parents[0] != _NO_PARENT or (parents[1:] < 0).any() or (parents[1:] >= len(parents)).any():
        raise ValueError("a tree has a parent that is not there")
    if (parents[left[inner]] != places).any() or (parents[right[inner]] != places).any():
        raise ValueError("a tree has a child with another parent")


def _array_interface(matrix: NDArray[Any]) -> bytes:
    return msgspec.json.encode(
        {
            "data": (matrix.ctypes.data, True),
            "shape": matrix.shape,
            "typestr": matrix.dtype.str,
            "version": 3,
            "strides": None,
        }
    )


@lru_cache(maxsize=16)
def _config(kind: int, rounds: int) -> bytes:
    return (
        f'{{"type": {kind}, "training": false, "iteration_begin": 0, "iteration_end": {rounds}, '
        '"strict_shape": false, "cache_id": 0, "missing": NaN}'
    ).encode()


def _copy(result: Foreign, shape: Foreign, dimensions: int) -> NDArray[np.float32]:  # ctypes pointers
    """Copy a result that the library will overwrite."""
    sizes: Sequence[int] = [shape[place] for place in range(dimensions)]
    if 0 in sizes:
        return np.empty(sizes, dtype=np.float32)
    return np.ctypeslib.as_array(result, shape=tuple(sizes)).copy()


def _first_line(message: str) -> str:
    """Return what the library's error says, without its stack."""
    lines = [line for line in message.splitlines() if line.strip() and not line.lstrip().startswith("[bt]")]
    return lines[0] if lines else "no reason given"


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xgboost")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for name in ("libxgboost.so", "libxgboost.dylib"):
            path = Path(folder) / "lib" / name
            if path.is_file():
                library = ctypes.CDLL(str(path))
                library.XGBGetLastError.restype = ctypes.c_char_p
                library.XGBSetGlobalConfig(b'{"verbosity": 0}')
                return library
    raise Unavailable("This model needs XGBoost, which is not installed.", hint="pip install 'mainspring[xgboost]'")
