"""XGBoost models from their native files: boosters, and scikit-learn's classes as MLflow saves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Refused
from mainspring.serving.checked import Checked
from mainspring.serving.explanations import Explanation, make_explanation
from mainspring.serving.mlmodel import data_path
from mainspring.serving.outputs import Outputs, single
from mainspring.serving.plan import Column, Plan, make_plan, matrix_plan
from mainspring.serving.runtimes.interface import Predict, Runtime, Source, require_width
from mainspring.serving.xgboost import XGBooster

PLATFORM = "xgboost"


def load(source: Source) -> Runtime:
    """Load a model of MLflow's xgboost flavour."""
    flavor = source.flavor("xgboost")
    path = data_path(source.folder, dict(flavor))
    if path.suffix not in (".ubj", ".json", ".xgb"):
        raise Refused(f"Model {source.name} has {path.name}, which is not a native XGBoost file.")
    booster = XGBooster(path.read_bytes())
    if "c" in booster.feature_types:
        raise Refused(f"Model {source.name} was trained on pandas categories.", hint="Encode them in a transform.")
    plan = source.plan or _plan(booster)
    require_width(source, plan, booster.features)
    kind = str(flavor.get("model_class", "")).rpartition(".")[2]
    order = _order(source, booster, plan)
    rounds = booster.rounds if kind not in ("", "Booster") else 0

    def values(checked: Checked) -> NDArray[np.float32]:
        return booster.predict(_matrix(checked, order), rounds=rounds)

    def explain(checked: Checked) -> Explanation:
        found = booster.contributions(_matrix(checked, order), rounds=rounds)
        names = booster.feature_names or tuple(str(place) for place in range(booster.features))
        return make_explanation(found[:, :, :-1], found[:, :, -1], method="tree", names=names, unit="raw score")

    if kind not in ("XGBClassifier", "XGBRFClassifier"):
        return Runtime(PLATFORM, plan, lambda checked: single(values(checked)), explain=explain)

    def predict_proba(checked: Checked) -> Outputs:
        found = values(checked)
        return single(np.column_stack([1.0 - found, found]) if found.ndim == 1 else found, "predict_proba")

    def predict(checked: Checked) -> Outputs:
        found = values(checked)
        if booster.objective == "multi:softmax":
            return single(found.astype(np.int64))
        return single(np.argmax(found, axis=1) if found.ndim == 2 else (found > 0.5).astype(np.int64))

    methods: dict[str, Predict] = {} if booster.objective == "multi:softmax" else {"predict_proba": predict_proba}
    return Runtime(PLATFORM, plan, predict, methods, explain)


def _plan(booster: XGBooster) -> Plan:
    if booster.feature_names:
        return make_plan([Column(name=name, type="double") for name in booster.feature_names])
    return matrix_plan(booster.features)


def _order(source: Source, booster: XGBooster, plan: Plan) -> NDArray[np.intp] | None:
    """Return the places of the booster's features among the plan's columns, if the order is another."""
    if not plan.columns or not booster.feature_names or plan.names == booster.feature_names or not plan.has_names:
        return None
    if plan.name_set != frozenset(booster.feature_names):
        raise Corrupt(f"The signature of model {source.name} has other columns than the model.")
    return np.array([plan.names.index(name) for name in booster.feature_names])


def _matrix(checked: Checked, order: NDArray[np.intp] | None) -> NDArray[np.floating]:
    matrix = checked.to_matrix()
    return matrix if order is None else matrix[:, order]
