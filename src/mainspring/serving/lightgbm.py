"""LightGBM models through the library's C interface.

Importing the ``lightgbm`` package pulls in pandas, scikit-learn and pyarrow (seconds, 150 MB); an endpoint needs four
functions of the shared library that the package brings, and gets the same numbers from them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Refused, Unavailable

_FLOAT64 = 1
_ROW_MAJOR = 1
_PREDICT_NORMAL = 0
_PREDICT_RAW = 1
_PREDICT_CONTRIBUTIONS = 3
_ALL_TREES = -1
_PARAMETERS = b"num_threads=1"
_MAX_CLASSES = 100_000


class Booster:
    """A LightGBM model read from its text form; predictions are its normal output (probabilities, values)."""

    def __init__(self, text: bytes) -> None:
        self._library = _library()
        self._handle = ctypes.c_void_p()
        iterations = ctypes.c_int()
        if not text.startswith(b"tree"):
            raise Corrupt("The LightGBM model is not in LightGBM's text form.")
        check_trees(text)
        text = _without_sizes(text)
        self._call("LGBM_BoosterLoadModelFromString", text, ctypes.byref(iterations), ctypes.byref(self._handle))
        self.features = self._count("LGBM_BoosterGetNumFeature")
        """Columns a row must have."""
        self.classes = self._count("LGBM_BoosterGetNumClasses")
        """Values per row."""

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows of float64 features (NaN = missing): shape (n,), or (n, classes) for several classes."""
        result = self._predict(matrix, _PREDICT_NORMAL, self.classes)
        return result if self.classes == 1 else result.reshape(len(matrix), self.classes)

    def predict_raw(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict scores before the objective's last step (log-odds for a classifier): shape (n, classes)."""
        return self._predict(matrix, _PREDICT_RAW, self.classes).reshape(len(matrix), self.classes)

    def contributions(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each feature's part of the raw score and, last, the base value: shape (n, classes, features + 1)."""
        width = self.classes * (self.features + 1)
        result = self._predict(matrix, _PREDICT_CONTRIBUTIONS, width)
        return result.reshape(len(matrix), self.classes, self.features + 1)

    def _predict(self, matrix: NDArray[np.float64], kind: int, values: int) -> NDArray[np.float64]:
        rows, width = matrix.shape
        if width != self.features:
            raise Corrupt(f"The model has {self.features} features, its transform makes {width}.")
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        result = np.empty(rows * values, dtype=np.float64)
        length = ctypes.c_int64()
        self._call(
            "LGBM_BoosterPredictForMat",
            self._handle,
            ctypes.c_void_p(matrix.ctypes.data),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(rows),
            ctypes.c_int32(width),
            ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(kind),
            ctypes.c_int(0),
            ctypes.c_int(_ALL_TREES),
            ctypes.c_char_p(_PARAMETERS),
            ctypes.byref(length),
            ctypes.c_void_p(result.ctypes.data),
        )
        return result

    def __del__(self) -> None:
        if self._handle:
            self._library.LGBM_BoosterFree(self._handle)

    def _count(self, function: str) -> int:
        number = ctypes.c_int()
        self._call(function, self._handle, ctypes.byref(number))
        return number.value

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._library, function)(*arguments) != 0:
            message = self._library.LGBM_GetLastError()
            raise Corrupt(f"LightGBM cannot use the model: {message.decode(errors='replace')[:300]}")


def check_trees(text: bytes) -> None:
    """Check every index in the trees of a model's text: the library follows them without looking.

    Raises `Corrupt` for a feature, child, leaf or category that is not there.
    """
    if b"pandas_categorical:[[" in text:
        raise Refused(
            "The LightGBM model was trained on pandas categories, whose codes its text form alone does not give.",
            hint="Train it on numbers, or with mainspring's transform.",
        )
    try:
        head, *trees = text.split(b"\nTree=")
        fields = _fields(head)
        features = int(fields[b"max_feature_idx"]) + 1
        _check_outputs(fields)
        for tree in trees:
            _check_tree(_fields(tree.partition(b"\n\n")[0]), features)
    except (KeyError, ValueError) as error:
        raise Corrupt(f"The LightGBM model is damaged: {str(error)[:100]}.") from error


def _without_sizes(text: bytes) -> bytes:
    """Leave out where each tree begins: by it the library reads trees in parallel, where an error ends the process."""
    return re.sub(rb"\ntree_sizes=[^\n]*", b"", text, count=1)


def _check_outputs(fields: dict[bytes, bytes]) -> None:
    """Check that trees and objective write as many values per row as the model says it has."""
    classes = int(fields[b"num_class"])
    named = re.search(rb"num_class:(\d+)", fields.get(b"objective", b""))
    if not 0 < classes < _MAX_CLASSES or int(fields[b"num_tree_per_iteration"]) != classes:
        raise ValueError("it has not as many classes as it says")
    if named is not None and int(named.group(1)) != classes:
        raise ValueError("its objective has other classes")


def _fields(section: bytes) -> dict[bytes, bytes]:
    """Read ``key=value`` lines; a key may be there once, for two readers could choose different ones."""
    found: dict[bytes, bytes] = {}
    for line in section.split(b"\n"):
        key, sign, value = line.partition(b"=")
        if sign and key in found:
            raise ValueError("a field is there twice")
        if sign:
            found[key] = value
    return found


def _check_tree(fields: dict[bytes, bytes], features: int) -> None:
    leaves = int(fields[b"num_leaves"])
    if leaves < 1 or len(fields[b"leaf_value"].split()) != leaves:
        raise ValueError("a tree has not as many leaves as it says")
    if leaves == 1:
        return
    split = _integers(fields[b"split_feature"])
    left, right = _integers(fields[b"left_child"]), _integers(fields[b"right_child"])
    thresholds, kinds = fields[b"threshold"].split(), _integers(fields[b"decision_type"])
    nodes = leaves - 1
    if any(len(one) != nodes for one in (split, left, right, thresholds, kinds)):
        raise ValueError("a tree has not as many nodes as it says")
    if split.min() < 0 or split.max() >= features:
        raise ValueError(f"a tree splits on feature {split.max()} of {features}")
    places = np.arange(nodes)
    for child in (left, right):
        # A child is a later node, or a leaf as its complement: so every walk ends.
        if (child >= nodes).any() or (~child >= leaves).any() or ((child >= 0) & (child <= places)).any():
            raise ValueError("a tree points to a node that is not there")
    _check_categories(fields, kinds, thresholds)
    linear = _integers(fields.get(b"leaf_features", b""))
    if linear.size and (linear.min() < 0 or linear.max() >= features):
        raise ValueError("a linear leaf has a feature that is not there")


def _check_categories(fields: dict[bytes, bytes], kinds: NDArray[np.int64], thresholds: list[bytes]) -> None:
    """Check the bit sets of categorical splits: their bounds grow, and end where the bits end."""
    categorical = np.flatnonzero(kinds & 1)
    if not categorical.size:
        return
    count = int(fields[b"num_cat"])
    bounds, bits = _integers(fields[b"cat_boundaries"]), _integers(fields[b"cat_threshold"])
    used = np.array([float(thresholds[place]) for place in categorical])
    if len(bounds) != count + 1 or bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] != len(bits):
        raise ValueError("a tree has categories that are not there")
    if (used < 0).any() or (used >= count).any():
        raise ValueError("a tree splits on categories that are not there")


def _integers(text: bytes) -> NDArray[np.int64]:
    return np.array(text.split(), dtype=np.int64)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("lightgbm")
    folders = spec.submodule_search_locations if spec else None
    names = ("lib_lightgbm.so", "lib_lightgbm.dylib")
    paths = [Path(folder) / "lib" / name for folder in folders or () for name in names]
    for path in paths:
        if path.is_file():
            library = ctypes.CDLL(str(path))
            library.LGBM_GetLastError.restype = ctypes.c_char_p
            return library
    raise Unavailable("This model needs LightGBM, which is not installed.", hint="pip install 'mainspring[lightgbm]'")
