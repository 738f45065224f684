"""scikit-learn's linear models, and scalers before them, as the few array operations they are.

One call of a scaler and a logistic regression spends 200 microseconds on looking at its arguments and 5 on the
numbers. The plan has looked already, so only the numbers are done here, in scikit-learn's own order; that the results
are the same to the last bit is checked when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Foreign
from mainspring.serving.faults import BadRequest

_LINEAR = frozenset(
    {"LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "BayesianRidge"}
    | {"LogisticRegression", "LogisticRegressionCV", "LinearSVC", "LinearSVR", "SGDClassifier", "SGDRegressor"}
    | {"RidgeClassifier", "RidgeClassifierCV", "Perceptron", "HuberRegressor"}
)
Rows = NDArray[np.float64]
Call = Callable[[Any], Any]
Step = Callable[[Rows], Rows]


def fast_linear(model: Foreign, method: str) -> Call | None:  # any estimator
    """Return a quicker ``method`` of a linear model that answers exactly the same, or nothing if there is none."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    is_ours = (
        type(last).__module__.startswith("sklearn.linear_model.") or type(last).__module__ == "sklearn.svm._classes"
    )
    if type(last).__name__ not in _LINEAR or not is_ours or np.ndim(last.coef_) > 2 or hasattr(last.coef_, "indptr"):
        return None
    steps = [_scaler(step) for _, step in model.steps[:-1]] if hasattr(model, "steps") else []
    if any(step is None for step in steps):
        return None
    found = _scores(last, [step for step in steps if step is not None])
    original = getattr(model, method)
    for call in _forms(last, found, method):
        if _answers_the_same(call, original, int(model.n_features_in_)):
            return _in_double(call, original)
    return None


def _in_double(call: Call, original: Call) -> Call:
    """Leave single precision, in which scikit-learn calculates on, and what overflows to scikit-learn."""

    def predict(rows: Rows) -> NDArray[Any]:
        if rows.dtype != np.float64:
            return np.asarray(original(rows))
        try:
            return np.asarray(call(rows))
        except FloatingPointError:
            return np.asarray(_in_earnest(original, rows))

    return predict


def _in_earnest(original: Call, rows: Rows) -> object:
    """Ask scikit-learn with its own checks on: it refuses numbers that overflow on their way."""
    import sklearn

    with np.errstate(all="ignore"), sklearn.config_context(assume_finite=False):
        try:
            return original(rows)
        except ValueError as error:
            raise BadRequest("a number is too large for the model: it overflows") from error


def _scaler(step: Foreign) -> Step | None:  # any estimator
    """Return what a scaler does, if it is one of the two plain ones."""
    kind = type(step)
    if not kind.__module__.startswith("sklearn.preprocessing."):
        return None
    if kind.__name__ == "StandardScaler":
        mean = step.mean_ if step.with_mean else None
        scale = step.scale_ if step.with_std else None

        def standardise(rows: Rows) -> Rows:
            rows = rows if mean is None else rows - mean
            return rows if scale is None else rows / scale

        return standardise
    if kind.__name__ == "MinMaxScaler" and not step.clip:
        return lambda rows: rows * step.scale_ + step.min_
    return None


def _scores(last: Foreign, steps: list[Step]) -> Step:  # any linear estimator
    weights = last.coef_.T
    intercept = last.intercept_

    def scores(rows: Rows) -> Rows:
        with np.errstate(all="ignore"):
            for step in steps:
                rows = step(rows)
            found: Rows = rows @ weights + intercept
        if not np.isfinite(found).all():
            raise FloatingPointError
        return found

    return scores


def _forms(last: Foreign, scores: Step, method: str) -> list[Call]:  # any linear estimator
    """Return the ways scikit-learn makes an answer of scores: one of them, or none, is this estimator's."""

    def decide(rows: Rows) -> Rows:
        found = scores(rows)
        return found.ravel() if found.ndim > 1 and found.shape[1] == 1 else found

    if method == "decision_function":
        return [decide]
    if method == "predict" and not hasattr(last, "classes_"):
        return [scores, decide]
    if method == "predict":
        classes = last.classes_

        def label(rows: Rows) -> NDArray[Any]:
            found = decide(rows)
            places = (found > 0).astype(np.intp) if found.ndim == 1 else found.argmax(axis=1)
            return np.asarray(classes[places])

        return [label]
    return [_logistic(decide), _softmax(decide)] if method == "predict_proba" else []


def _logistic(decide: Step) -> Call:
    from scipy.special import expit

    def predict_proba(rows: Rows) -> Rows:
        found: Rows = expit(decide(rows))
        if found.ndim == 1:
            return np.vstack([1 - found, found]).T
        found /= found.sum(axis=1).reshape((found.shape[0], -1))
        return found

    return predict_proba


def _softmax(decide: Step) -> Call:
    from sklearn.utils.extmath import softmax

    def predict_proba(rows: Rows) -> Rows:
        found = decide(rows)
        result: Rows = softmax(np.c_[-found, found] if found.ndim == 1 else found, copy=False)
        return result

    return predict_proba


def _answers_the_same(call: Call, original: Call, features: int) -> bool:
    generator = np.random.default_rng(0)
    for rows in (1, 2, 33):
        for scale in (1.0, 100.0):
            asked = generator.normal(size=(rows, features)) * scale
            one, other = np.asarray(call(asked.copy())), np.asarray(original(asked))
            if one.shape != other.shape or one.dtype != other.dtype or not np.array_equal(one, other):
                return False
    return True
