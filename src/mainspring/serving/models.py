"""Load a model version: verify its bytes, choose its runtime, compile its plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Refused, Unavailable
from mainspring.serving.deployment import ModelReference
from mainspring.serving.lightgbm import Booster
from mainspring.serving.mlmodel import MLmodel, check_tree, data_path, read_mlmodel
from mainspring.serving.plan import FLOATS, Plan, compile_signature
from mainspring.serving.validation import Checked

Predict: TypeAlias = Callable[[Checked], NDArray[Any]]
"""Predict checked columns: an array with one entry (or one row) per row."""

OUR_LOADER = "mainspring.serving.pyfunc"
_CODE_FILES = (".pkl", ".pickle", ".cloudpickle", ".joblib", ".dill", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version that is ready to predict."""

    reference: ModelReference
    platform: str
    plan: Plan
    predict: Predict


def load_model(reference: ModelReference, *, allow_pickle: bool = False) -> LoadedModel:
    """Load the model a deployment names; raise `Corrupt` if its bytes changed, `Refused` if it could run code."""
    folder = Path(reference.folder)
    check_tree(folder, reference.digest)
    description = read_mlmodel(folder)
    name = f"{reference.name} version {reference.version}"
    plan = compile_signature(description.signature.inputs if description.signature else None, name)
    platform, predict = _choose_runtime(folder, description, plan, name, allow_pickle=allow_pickle)
    return LoadedModel(reference=reference, platform=platform, plan=plan, predict=predict)


def _choose_runtime(
    folder: Path, description: MLmodel, plan: Plan, name: str, *, allow_pickle: bool
) -> tuple[str, Predict]:
    pyfunc = description.flavors.get("python_function")
    if pyfunc and pyfunc.get("loader_module") == OUR_LOADER:
        return "mainspring", _transformed_booster(data_path(folder, pyfunc), plan, name)
    lightgbm = description.flavors.get("lightgbm")
    if lightgbm and plan.is_numeric and data_path(folder, lightgbm).suffix == ".lgb":
        return "lightgbm", _plain_booster(data_path(folder, lightgbm), plan, name)
    if pyfunc is None:
        raise Refused(f"Model {name} has no python_function flavour.", hint="Log it with an MLflow flavour.")
    _refuse_code(folder, pyfunc, name, allow_pickle=allow_pickle)
    return "mlflow", _mlflow_pyfunc(folder, plan, name)


def _transformed_booster(folder: Path, plan: Plan, name: str) -> Predict:
    # Late: the transform is only needed by models that carry one.
    from mainspring.serving.pyfunc import load_transformed_booster

    model = load_transformed_booster(folder)
    unknown = [feature for feature in model.transform.feature_names if feature not in plan.by_name]
    if unknown:
        raise Corrupt(f"Model {name} needs columns its signature does not have: {', '.join(unknown[:10])}.")
    return model.predict_columns


def _plain_booster(path: Path, plan: Plan, name: str) -> Predict:
    booster = Booster(path.read_bytes())
    if booster.features != len(plan.names):
        raise Corrupt(f"Model {name} has {booster.features} features, its signature {len(plan.names)}.")

    def predict(columns: Checked) -> NDArray[Any]:
        numbers = [np.asarray(columns[name], dtype=np.float64) for name in plan.names]
        return booster.predict(np.column_stack(numbers))

    return predict


def _refuse_code(folder: Path, pyfunc: dict[str, Any], name: str, *, allow_pickle: bool) -> None:
    """Refuse a model whose files can run code when they are loaded, unless the operator allowed it."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    skops = [file for file in files if file.endswith(".skops")]
    if skops:
        raise Refused(f"Model {name} holds {skops[0]}: skops files need a list of types the operator trusts.")
    loader = str(pyfunc.get("loader_module"))
    code = [file for file in files if file.endswith(_CODE_FILES)]
    code += ["code/"] if pyfunc.get("code") else []
    code += [loader[:80]] if not loader.startswith("mlflow.") else []
    if code and not allow_pickle:
        raise Refused(
            f"Model {name} holds {code[0]}, which can run any code when it is loaded.",
            hint="Pass --allow-pickle if you trust whoever made it.",
        )


def _mlflow_pyfunc(folder: Path, plan: Plan, name: str) -> Predict:
    try:
        # Late: seconds and hundreds of modules, for models that only MLflow can load.
        import mlflow.pyfunc
        import pandas as pd
    except ImportError as error:
        raise Unavailable(
            f"Model {name} needs MLflow and pandas: {error}.", hint="pip install 'mainspring[mlflow]'"
        ) from error
    try:
        model = mlflow.pyfunc.load_model(str(folder))
    except Exception as error:  # whatever the code of the model or its libraries raises
        raise Unavailable(
            f"Model {name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}",
            hint="Install what it was made with; what answered before goes on answering.",
        ) from error
    types = {
        column.name: _PANDAS.get(column.type) for column in plan.columns if not column.nullable or column.type in FLOATS
    }

    def predict(columns: Checked) -> NDArray[Any]:
        frame = pd.DataFrame(columns).astype({name: kind for name, kind in types.items() if kind})
        return np.asarray(model.predict(frame))

    return predict


_PANDAS = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
