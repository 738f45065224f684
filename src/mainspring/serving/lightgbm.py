"""LightGBM models through the library's C interface.

Importing the ``lightgbm`` package pulls in pandas, scikit-learn and pyarrow (seconds, 150 MB); an endpoint needs four
functions of the shared library that the package brings, and gets the same numbers from them.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Unavailable

_FLOAT64 = 1
_ROW_MAJOR = 1
_PREDICT_NORMAL = 0
_ALL_TREES = -1
_PARAMETERS = b"num_threads=1"


class Booster:
    """A LightGBM model read from its text form; predictions are its normal output (probabilities, values)."""

    def __init__(self, text: bytes) -> None:
        self._library = _library()
        self._handle = ctypes.c_void_p()
        iterations = ctypes.c_int()
        if not text.startswith(b"tree"):
            raise Corrupt("The LightGBM model is not in LightGBM's text form.")
        self._call("LGBM_BoosterLoadModelFromString", text, ctypes.byref(iterations), ctypes.byref(self._handle))
        self.features = self._count("LGBM_BoosterGetNumFeature")
        """Columns a row must have."""
        self.classes = self._count("LGBM_BoosterGetNumClasses")
        """Values per row."""

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows of float64 features (NaN = missing): shape (n,), or (n, classes) for several classes."""
        rows, width = matrix.shape
        if width != self.features:
            raise Corrupt(f"The model has {self.features} features, its transform makes {width}.")
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        result = np.empty(rows * self.classes, dtype=np.float64)
        length = ctypes.c_int64()
        self._call(
            "LGBM_BoosterPredictForMat",
            self._handle,
            ctypes.c_void_p(matrix.ctypes.data),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(rows),
            ctypes.c_int32(width),
            ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(_PREDICT_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(_ALL_TREES),
            ctypes.c_char_p(_PARAMETERS),
            ctypes.byref(length),
            ctypes.c_void_p(result.ctypes.data),
        )
        return result if self.classes == 1 else result.reshape(rows, self.classes)

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
