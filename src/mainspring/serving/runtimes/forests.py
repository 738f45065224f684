"""scikit-learn's forests without their dispatch: the same trees, the same sums, a tenth of the time for one row.

A forest hands each tree to joblib, which costs more than the trees. Here the trees are asked in turn, in the order
that scikit-learn adds them up in; the result is the same to the last bit, and that is checked when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Foreign

_CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
_REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")
_ROWS = 12

Call = Callable[[Any], Any]


def fast_forest(model: Foreign, method: str) -> Call | None:  # any estimator
    """Return a quicker ``method`` of a forest that answers exactly the same, or nothing if there is none."""
    kind = type(model)
    if not kind.__module__.startswith("sklearn.ensemble.") or kind.__name__ not in (*_CLASSIFIERS, *_REGRESSORS):
        return None
    if getattr(model, "n_outputs_", 0) != 1 or method not in ("predict", "predict_proba"):
        return None
    call = _classifier(model, method) if kind.__name__ in _CLASSIFIERS else _regressor(model)
    return call if _answers_the_same(call, getattr(model, method), int(model.n_features_in_)) else None


def _classifier(model: Foreign, method: str) -> Call:  # any forest
    trees = [one.tree_ for one in model.estimators_]
    classes, width = model.classes_, int(model.n_classes_)

    def predict_proba(rows: NDArray[Any]) -> NDArray[np.float64]:
        matrix = _single(rows)
        total = np.zeros((len(matrix), width))
        for tree in trees:
            total += tree.predict(matrix)[:, :width]
        total /= len(trees)
        return total

    if method == "predict_proba":
        return predict_proba
    return lambda rows: classes.take(np.argmax(predict_proba(rows), axis=1), axis=0)


def _regressor(model: Foreign) -> Call:  # any forest
    trees = [one.tree_ for one in model.estimators_]

    def predict(rows: NDArray[Any]) -> NDArray[np.float64]:
        matrix = _single(rows)
        total = np.zeros(len(matrix))
        for tree in trees:
            total += tree.predict(matrix)[:, 0]
        total /= len(trees)
        return total

    return predict


def _single(rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows, dtype=np.float32)


def _answers_the_same(call: Call, original: Call, features: int) -> bool:
    generator = np.random.default_rng(0)
    for scale in (1.0, 100.0):
        rows = generator.normal(size=(_ROWS, features)) * scale
        if not np.array_equal(call(rows), original(rows)):
            return False
    return True
