"""LightGBM models: the library's text form, and its scikit-learn classes saved by skops, without importing either.

A skops file of an ``LGBMClassifier`` is JSON that holds the booster's text; it is read, nothing in it is built.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt
from mainspring.serving.checked import Checked
from mainspring.serving.explanations import Explain, Explanation, make_explanation
from mainspring.serving.lightgbm import Booster
from mainspring.serving.mlmodel import data_path
from mainspring.serving.outputs import Outputs, single
from mainspring.serving.plan import Plan, matrix_plan
from mainspring.serving.runtimes.interface import Predict, Runtime, Source, require_width

PLATFORM = "lightgbm"
_MAX_SCHEMA = 1 << 30


def load(source: Source) -> Runtime:
    """Load a model of MLflow's lightgbm flavour."""
    section = source.flavor("lightgbm")
    text, classes = read_booster(source, data_path(source.folder, dict(section)))
    if isinstance(section.get("classes"), list):
        classes = np.array(section["classes"])
    return _runtime(source, Booster(text), classes)


def read_booster(source: Source, path: Path) -> tuple[bytes, NDArray[Any] | None]:
    """Return a model's text and, for a classifier of LightGBM's scikit-learn interface, its classes."""
    if path.suffix == ".skops":
        return _read_skops(path)
    if path.suffix in (".lgb", ".txt"):
        return path.read_bytes(), None
    # Late: a pickle names what it needs.
    from mainspring.serving.runtimes.pickles import load_pickle

    model: Any = load_pickle(source, path)
    booster = getattr(model, "booster_", model)
    classes = getattr(model, "classes_", None)
    return booster.model_to_string().encode(), None if classes is None else np.asarray(classes)


def explain_matrix(booster: Booster, matrix: NDArray[np.float64], names: tuple[str, ...]) -> Explanation:
    """Explain rows of features: the booster's own exact tree contributions."""
    found = booster.contributions(matrix)
    return make_explanation(found[:, :, :-1], found[:, :, -1], method="tree", names=names, unit="raw score")


def _runtime(source: Source, booster: Booster, classes: NDArray[Any] | None) -> Runtime:
    plan = source.plan or matrix_plan(booster.features)
    require_width(source, plan, booster.features)

    def scores(checked: Checked) -> Outputs:
        return single(booster.predict(_matrix(checked)))

    if classes is None:
        return Runtime(PLATFORM, plan, scores, explain=_explainer(booster, plan))

    def predict_proba(checked: Checked) -> Outputs:
        found = booster.predict(_matrix(checked))
        return single(np.column_stack([1.0 - found, found]) if found.ndim == 1 else found, "predict_proba")

    def predict(checked: Checked) -> Outputs:
        found = predict_proba(checked).primary
        return single(classes[np.argmax(found, axis=1)])

    methods: dict[str, Predict] = {"predict_proba": predict_proba}
    return Runtime(PLATFORM, plan, predict, methods, _explainer(booster, plan))


def _matrix(checked: Checked) -> NDArray[np.float64]:
    return np.asarray(checked.to_matrix(), dtype=np.float64)


def _explainer(booster: Booster, plan: Plan) -> Explain:
    names = tuple(plan.names) if plan.columns else tuple(str(place) for place in range(booster.features))
    return lambda checked: explain_matrix(booster, _matrix(checked), names)


def _read_skops(path: Path) -> tuple[bytes, NDArray[Any] | None]:
    """Return the booster's text and, for a classifier, its classes."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("schema.json").file_size > _MAX_SCHEMA:
                raise Corrupt(f"{path.name} is larger than {_MAX_SCHEMA} bytes.")
            schema = json.loads(archive.read("schema.json"))
            booster = _find(schema, "Booster")
            text = _find_text(booster)
            encoder = _find(schema, "LabelEncoder") if schema["__class__"] == "LGBMClassifier" else None
            classes = None if encoder is None else _read_classes(archive, encoder)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Corrupt(f"{path.name} is not a LightGBM model that skops wrote: {type(error).__name__}.") from error
    return text, classes


def _find(node: object, name: str) -> dict[str, Any]:
    """Return the first object of a class."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("__class__") == name and isinstance(one.get("content"), dict):
                return one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    raise KeyError(name)


def _find_text(booster: dict[str, Any]) -> bytes:
    waiting: list[object] = [booster]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, str) and one.startswith('"tree'):
            return str(json.loads(one)).encode()
    raise KeyError("handle")


def _read_classes(archive: zipfile.ZipFile, encoder: dict[str, Any]) -> NDArray[Any]:
    node = encoder["content"]["content"]["classes_"]
    if node["type"] == "numpy":
        array: NDArray[Any] = np.load(io.BytesIO(archive.read(node["file"])), allow_pickle=False)
        return array
    return np.array([json.loads(one["content"]) for one in node["content"]], dtype=object)
