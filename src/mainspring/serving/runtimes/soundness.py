"""Is an estimator from outside safe to call? scikit-learn's compiled parts follow indices without looking.

A file can hold only trusted types and still name a node, a feature or a support vector that is not there; predicting
with it then reads (or writes) memory of the process. Everything that compiled code indexes with is checked here,
after loading and before the first call: decision trees, histogram trees, ensembles of both, support vectors,
vocabularies and sparse matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mainspring.core import Corrupt, Foreign

_BITSET_WORDS = 8
_MAX_OBJECTS = 5_000_000


def check_estimator(model: object) -> None:
    """Raise `Corrupt` if anything inside the model points to where nothing is."""
    for one in _walk(model):
        kind = type(one).__name__
        if kind == "Tree":
            _check_tree(one)
        elif hasattr(one, "check_format") and hasattr(one, "indptr"):
            _require(_is_sound_sparse(one), "a sparse matrix has indices outside it")
        elif hasattr(one, "__dict__"):
            _check_owner(one)


def _walk(model: object) -> Iterator[Any]:
    """Yield every object a model is made of, each once; arrays of numbers are left out."""
    waiting: list[Any] = [model]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or isinstance(one, str | bytes | int | float | type) or id(one) in seen:
            continue
        seen.add(id(one))
        _require(len(seen) < _MAX_OBJECTS, "it has too many parts")
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple | set | frozenset):
            waiting.extend(one)
        elif isinstance(one, np.ndarray):
            if one.dtype == object:
                waiting.extend(one.ravel())
        else:
            yield one
            waiting.extend(getattr(one, "__dict__", {}).values())


def _check_owner(one: Foreign) -> None:  # any estimator
    """Check what an estimator hands to compiled code."""
    parts: dict[str, Any] = one.__dict__
    if "tree_" in parts and type(parts["tree_"]).__name__ == "Tree":
        _require(parts["tree_"].n_features == parts.get("n_features_in_"), "a tree has other features than its owner")
    if "estimators_" in parts:
        _check_ensemble(parts)
    if "_predictors" in parts:
        _check_histogram_trees(parts)
    if "support_vectors_" in parts and "_n_support" in parts:
        _check_support_vectors(parts)
    if "_fit_X" in parts:
        _check_neighbors(parts)
    centres = parts.get("cluster_centers_")
    if isinstance(centres, np.ndarray):
        sound = centres.ndim == 2 and centres.shape[1] == parts.get("n_features_in_")
        _require(sound, "clusters have other features than their owner")
    if "_n_features_outs" in parts and hasattr(one, "_compute_n_features_outs"):
        sound = list(parts["_n_features_outs"]) == list(one._compute_n_features_outs())
        _require(sound, "an encoder has other columns than its categories")
    vocabulary = parts.get("vocabulary_")
    if isinstance(vocabulary, dict):
        places = sorted(int(place) for place in vocabulary.values())
        _require(places == list(range(len(places))), "a vocabulary has words at places that are not there")


def _check_tree(tree: Foreign) -> None:  # a compiled type
    _require(0 < tree.node_count <= tree.capacity, "a tree has more nodes than it holds")
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    _check_nodes(left, right, feature, left != -1, tree.n_features)


def _check_nodes(left: Foreign, right: Foreign, feature: Foreign, inner: Foreign, features: int) -> None:  # arrays
    """Check that every inner node splits on a feature there is, and that its children are later nodes."""
    places = np.arange(len(left), dtype=np.int64)[inner]
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        # Children come after their parents, so every walk ends.
        _require(not ((child <= places) | (child >= len(left))).any(), "a tree points to a node that is not there")
    split = feature[inner]
    _require(not ((split < 0) | (split >= features)).any(), "a tree splits on a feature that is not there")


def _check_ensemble(parts: dict[str, Any]) -> None:
    """Ensembles check a request once and hand it to their trees unchecked."""
    members = np.asarray(parts["estimators_"], dtype=object)
    if members.ndim == 2 and "n_trees_per_iteration_" in parts:
        _require(members.shape[1] == parts["n_trees_per_iteration_"], "a boosted model has a wrong number of trees")
    trees = [member.tree_ for member in members.ravel() if hasattr(member, "tree_")]
    if not trees:
        return
    features = parts.get("n_features_in_")
    subsets = parts.get("estimators_features_")
    if subsets is None:
        widths = [features] * len(trees)
    else:
        _require(len(subsets) == len(trees), "an ensemble has a wrong number of feature subsets")
        widths = [len(subset) for subset in subsets]
        used = np.concatenate([np.asarray(subset) for subset in subsets])
        _require(
            used.dtype.kind in "iu" and used.min() >= 0 and isinstance(features, int) and used.max() < features,
            "an ensemble uses a feature that is not there",
        )
    for tree, width in zip(trees, widths, strict=True):
        _require(tree.n_features == width, "a tree has other features than its ensemble")


def _check_histogram_trees(parts: dict[str, Any]) -> None:
    features = parts.get("n_features_in_")
    _require(isinstance(features, int) and features > 0, "a boosted model has no features")
    mapper = parts.get("_bin_mapper")
    marks = getattr(mapper, "is_categorical_", None)
    _require(marks is not None and len(marks) == features, "a boosted model has other features than its bins")
    for predictors in parts["_predictors"]:
        _require(len(predictors) == parts.get("n_trees_per_iteration_"), "a boosted model has a wrong number of trees")
        for predictor in predictors:
            nodes, bits = predictor.nodes, predictor.raw_left_cat_bitsets
            _require(len(nodes) > 0, "a tree has no nodes")
            inner = nodes["is_leaf"] == 0
            _check_nodes(nodes["left"], nodes["right"], nodes["feature_idx"], inner, int(features or 0))
            _require(bits.ndim == 2 and bits.shape[1] == _BITSET_WORDS, "a tree has categories of a wrong size")
            categorical = nodes[inner & (nodes["is_categorical"] != 0)]
            _require(
                not (categorical["bitset_idx"] >= len(bits)).any(), "a tree splits on categories that are not there"
            )


def _check_support_vectors(parts: dict[str, Any]) -> None:
    vectors, counts = parts["support_vectors_"], np.asarray(parts["_n_support"])
    total = vectors.shape[0]
    dual = parts["_dual_coef_"]
    _require(counts.ndim == 1 and len(counts) > 0 and bool((counts >= 0).all()), "a support vector machine is damaged")
    is_classifier = "classes_" in parts and len(parts["classes_"]) > 1
    _require(
        vectors.ndim == 2
        and vectors.shape[1] == parts.get("n_features_in_")
        and len(parts["support_"]) == total
        and dual.ndim == 2
        and dual.shape[1] == total
        and (int(counts.sum()) == total if is_classifier else int(counts[0]) <= total)
        and dual.shape[0] == (len(counts) - 1 if is_classifier else 1),
        "a support vector machine has vectors that are not there",
    )
    pairs = len(counts) * (len(counts) - 1) // 2 if is_classifier else 1
    _require(np.size(parts["_intercept_"]) == pairs, "a support vector machine has a wrong number of intercepts")
    for name in ("_probA", "_probB"):
        _require(np.size(parts.get(name, ())) in (0, pairs), "a support vector machine has wrong probabilities")


def _check_neighbors(parts: dict[str, Any]) -> None:
    """Nearest neighbours are compared, and their classes counted, by compiled code."""
    known, labels = parts["_fit_X"], parts.get("_y")
    _require(np.ndim(known) == 2 and known.shape[1] == parts.get("n_features_in_"), "neighbours have other features")
    classes = parts.get("classes_")
    if labels is None:
        return
    _require(len(labels) == known.shape[0], "neighbours have other labels")
    if isinstance(classes, np.ndarray) and np.ndim(labels) == 1:
        kind = np.asarray(labels).dtype.kind
        inside = kind in "iu" and len(labels) > 0 and labels.min() >= 0 and labels.max() < len(classes)
        _require(bool(inside), "a neighbour has a class that is not there")


def _is_sound_sparse(matrix: Foreign) -> bool:  # any of scipy's compressed matrices
    try:
        matrix.check_format(full_check=True)
    except (ValueError, IndexError):
        return False
    return True


def _require(sound: bool, problem: str) -> None:
    if not sound:
        raise Corrupt(f"The model is damaged: {problem}.", hint="Save it again from the estimator it was made of.")
