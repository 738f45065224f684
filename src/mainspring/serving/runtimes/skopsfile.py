"""scikit-learn models saved by skops: the list of trusted types is this server's, never the model's.

MLflow stores a list of trusted types in the model's own MLmodel file, where whoever made the model wrote it; it is
not read. Two kinds of trees that skops itself does not trust are trusted here, because what makes them
dangerous, the indices in their nodes, is checked before they are used (`mainspring.serving.runtimes.soundness`).
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mainspring.core import Corrupt, Foreign, Refused, Unavailable
from mainspring.serving.runtimes.frames import without_pandas
from mainspring.serving.runtimes.interface import Source
from mainspring.serving.runtimes.memory import require_memory
from mainspring.serving.runtimes.soundness import check_estimator

VETTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.utils._bunch.Bunch",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "numpy.dtype",
)
"""Types beyond skops' own defaults: the contents of the first two `check_estimator` checks, the rest are plain data."""

_MODULE = re.compile(r"sklearn(\.[a-z_]+[a-z0-9_]*)+")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*")
_OTHER = frozenset(
    {"tests", "externals", "setup", "conftest", "experimental", "estimator_checks", "_testing", "datasets"}
)


def load_skops(source: Source, path: Path, *, needs_pandas: bool) -> object:
    """Load a skops file whose types are all trusted by skops, by this server or by the operator."""
    schema = _read_schema(path)
    _check_tree_arguments(path, schema)
    skops = _import_skops(needs_pandas=needs_pandas)
    trusted = [*VETTED, *_estimators(schema), *source.trust.types]
    if source.trust.allow_pickle:
        trusted += _untrusted(skops, path, trusted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: object = skops.load(path, trusted=trusted)
    except Exception as error:  # skops raises what its parts raise
        unknown = _untrusted(skops, path, trusted)
        if unknown:
            raise Refused(
                f"Model {source.name} holds the type {unknown[0]}, which this server does not trust"
                + (f" (nor {len(unknown) - 1} more)." if len(unknown) > 1 else "."),
                hint=f"Pass --trust-type {unknown[0]} if you know what it does when it is loaded, or --allow-pickle.",
            ) from error
        raise Unavailable(
            f"Model {source.name} cannot be loaded: {type(error).__name__}: {str(error).splitlines()[0][:300]}",
            hint="Install the scikit-learn it was made with (its requirements.txt).",
        ) from error
    check_estimator(model)
    return model


def mentions(path: Path, *words: str) -> bool:
    """Say whether a skops file names any of these classes."""
    schema = json.dumps(_read_schema(path))
    return any(word in schema for word in words)


def restore_defaults() -> None:
    """Give skops its own list of estimators back, for loaders that rely on it."""
    module = sys.modules.get("skops.io._trusted_types")
    names = getattr(module, "SKLEARN_ESTIMATOR_TYPE_NAMES", None)
    if isinstance(names, list) and not names:
        from sklearn.utils import all_estimators

        names += [f"{kind.__module__}.{kind.__name__}" for _, kind in all_estimators()]


def _import_skops(*, needs_pandas: bool) -> Foreign:  # a module
    """Import skops without all of scikit-learn.

    To list the estimators it trusts, skops imports every module of scikit-learn (and pytest): 0.7 s and 12 MB. Here
    it finds an empty list, and the estimators that a file names are looked up one by one (`_estimators`).
    """
    try:
        if needs_pandas:
            import sklearn.utils
        else:
            with without_pandas():
                import sklearn.utils  # the one that looks for pandas when it is imported
        if "skops.io" in sys.modules:
            return sys.modules["skops.io"]
        every = sklearn.utils.all_estimators
        sklearn.utils.all_estimators = list
        try:
            import skops.io
        finally:
            sklearn.utils.all_estimators = every
    except ImportError as error:
        raise Unavailable(
            f"This model needs scikit-learn and skops: {error}.", hint="pip install 'mainspring[sklearn]'"
        ) from error
    return skops.io


def _estimators(schema: dict[str, Any]) -> list[str]:
    """Return which types a file names are scikit-learn's public estimators, by its own definition of these."""
    named = {(str(node.get("__module__")), str(node.get("__class__"))) for node in _objects(schema)}
    return [f"{module}.{name}" for module, name in sorted(named) if _is_estimator(module, name)]


def _is_estimator(module: str, name: str) -> bool:
    """Say whether this is a public estimator; only modules that scikit-learn itself would import are imported."""
    if not _MODULE.fullmatch(module) or not _CLASS.fullmatch(name) or _OTHER & set(module.split(".")):
        return False
    from sklearn.base import BaseEstimator

    try:
        kind = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return (
        inspect.isclass(kind)
        and issubclass(kind, BaseEstimator)
        and kind is not BaseEstimator
        and not inspect.isabstract(kind)
        and kind.__module__.startswith("sklearn.")
    )


def _untrusted(skops: Foreign, path: Path, trusted: list[str]) -> list[str]:
    try:
        return sorted(set(skops.get_untrusted_types(file=path)) - set(trusted))
    except Exception:  # noqa: BLE001 - the file is damaged in another way, which load() has said
        return []


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            require_memory(sum(info.file_size for info in archive.infolist()), path.name)
            schema = json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RecursionError) as error:
        raise Corrupt(f"{path.name} is not a skops file: {type(error).__name__}.") from error
    if not isinstance(schema, dict):
        raise Corrupt(f"{path.name} is not a skops file.")
    return schema


def _check_tree_arguments(path: Path, schema: dict[str, Any]) -> None:
    """Check what trees are built with: their constructor reads one class count per output without looking.

    skops takes the first of several objects with the same id, so those a tree is built with must all be the same.
    """
    trees = [node for node in _objects(schema) if node.get("__loader__") == "TreeNode"]
    if not trees:
        return
    try:
        arguments = [node["__reduce__"]["args"]["content"] for node in trees]
        wanted = {one.get("__id__") for three in arguments for one in three}
        known: dict[object, dict[str, Any]] = {}
        for node in _objects(schema):
            identity = node.get("__id__")
            is_wanted = identity is not None and identity in wanted and node["__loader__"] != "CachedNode"
            if is_wanted and known.setdefault(identity, node) != node:
                raise ValueError("two objects have the same id")
        with zipfile.ZipFile(path) as archive:
            for three in arguments:
                _check_arguments(archive, [known.get(one.get("__id__"), one) for one in three])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{path.name} holds a tree whose outputs are not there: {str(error)[:60]}.") from error


def _check_arguments(archive: zipfile.ZipFile, arguments: list[dict[str, Any]]) -> None:
    features, classes, outputs = arguments
    counts = np.load(io.BytesIO(archive.read(classes["file"])), allow_pickle=False)
    if counts.ndim != 1 or len(counts) != int(outputs["content"]) or int(features["content"]) < 1:
        raise ValueError("it says it has others")
    if not (counts > 0).all() or int(counts.max()) >= 1 << 24:
        raise ValueError("it has an impossible number of classes")


def _objects(schema: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a schema."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "__loader__" in one:
                yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
