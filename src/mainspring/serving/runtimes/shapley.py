"""Explanations of scikit-learn models: linear ones exactly, trees and the rest through shap where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Foreign, Unavailable
from mainspring.serving.checked import Checked
from mainspring.serving.explanations import Explain, Explanation, make_explanation
from mainspring.serving.plan import Plan


def explainer_of(model: Foreign, plan: Plan, prepare: Callable[[Checked], Any]) -> Explain | None:
    """Return what explains an estimator, or nothing if it is neither linear nor made of trees.

    A pipeline is explained in the inputs of its last step, where its other steps keep one column per column.
    """
    steps, last = _split(model)
    if steps is None:
        return None
    names = (
        tuple(plan.names) if plan.columns else tuple(str(place) for place in range(getattr(last, "n_features_in_", 0)))
    )
    if len(names) != getattr(last, "n_features_in_", -1):
        return None

    def matrix(checked: Checked) -> NDArray[Any]:
        rows = prepare(checked)
        for step in steps:
            rows = step.transform(rows)
        return np.asarray(rows, dtype=np.float64)

    if hasattr(last, "coef_") and hasattr(last, "intercept_") and np.ndim(last.coef_) <= 2:
        return _linear(last, names, matrix)
    if hasattr(last, "tree_") or hasattr(last, "estimators_") or hasattr(last, "_predictors"):
        return _trees(last, names, matrix)
    return None


def _split(model: Foreign) -> tuple[list[Any] | None, Any]:  # any estimator
    """Return the steps before the last of a pipeline, if each keeps the number of columns, and the last."""
    if not hasattr(model, "steps"):
        return [], model
    steps = [step for _, step in model.steps[:-1] if step is not None and step != "passthrough"]
    keeps = all(type(step).__name__ in _KEEPS for step in steps)
    return (steps if keeps else None), model.steps[-1][1]


_KEEPS = frozenset(
    {"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer", "PowerTransformer"}
    | {"QuantileTransformer", "OrdinalEncoder"}
)


def _linear(last: Foreign, names: tuple[str, ...], matrix: Callable[[Checked], NDArray[Any]]) -> Explain:
    """Explain a weighted sum; behind a scaler its inputs are measured from their means, else from zero."""
    weights = np.atleast_2d(last.coef_)
    base = np.atleast_1d(last.intercept_)
    unit = "log-odds" if type(last).__name__.startswith("LogisticRegression") else "raw score"

    def explain(checked: Checked) -> Explanation:
        parts = matrix(checked)[:, None, :] * weights[None, :, :]
        return make_explanation(
            parts, base, method="linear", names=names, unit=unit, outputs=_classes(last, len(weights))
        )

    return explain


def _trees(last: Foreign, names: tuple[str, ...], matrix: Callable[[Checked], NDArray[Any]]) -> Explain:
    found: list[Any] = []

    def explain(checked: Checked) -> Explanation:
        if not found:
            found.append(_tree_explainer(last))
        values: Any = np.asarray(found[0].shap_values(matrix(checked), check_additivity=False))
        parts: NDArray[Any] = values[:, None, :] if values.ndim == 2 else np.moveaxis(values, 2, 1)
        count = len(parts[0])
        base = np.atleast_1d(found[0].expected_value)[-count:]
        is_probability = hasattr(last, "estimators_") and hasattr(last, "classes_") and not hasattr(last, "init_")
        unit = (
            "probability" if is_probability or (hasattr(last, "tree_") and hasattr(last, "classes_")) else "raw score"
        )
        classes = _classes(last, count)
        return make_explanation(parts, base, method="shap", names=names, unit=unit, outputs=classes)

    return explain


def _tree_explainer(last: Foreign) -> Foreign:  # shap has no types
    try:
        # Late: shap brings numba and is seconds to import; only for who asks for an explanation.
        import shap
    except ImportError as error:
        raise Unavailable("Explaining this model needs shap.", hint="pip install 'mainspring[explain]'") from error
    return shap.TreeExplainer(last)


def _classes(last: Foreign, count: int) -> tuple[str, ...]:  # any estimator
    classes: Any = getattr(last, "classes_", ())
    if len(classes) == count:
        return tuple(map(str, classes))
    return (str(classes[-1]),) if count == 1 and len(classes) == 2 else ()
