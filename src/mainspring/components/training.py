"""Train: a learner on the training rows, logged with MLflow together with the transform it was trained behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.data import DIGEST_KEY
from mainspring.components.estimators import FUNCTION, Task, check_task, fit_learner, load_function, make_estimator
from mainspring.components.signatures import make_signature
from mainspring.components.tables import read_table
from mainspring.components.targets import Target, read_target
from mainspring.components.transforms import FittedTransform, load_transform
from mainspring.core import Foreign, InvalidInput
from mainspring.pipelines import current_run_id
from mainspring.serving.pyfunc import BOOSTER, TRANSFORM

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

TARGET_KEY, TASK_KEY, CLASSES_KEY = "target", "task", "classes"
"""What a model's MLflow metadata says about the labels it learned."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of MLflow's ways to keep a model: its module, and the arguments of ``save_model`` and ``log_model``."""

    module: Any
    arguments: Mapping[str, Any]


def train_model(
    train: ArtifactFile,
    *,
    transform: ArtifactFile,
    target: str,
    task: str,
    estimator: str,
    settings: Mapping[str, Any],
    experiment: str,
    model: ArtifactFile,
    seed: int = 0,
) -> str:
    """Fit a learner behind its transform and log it; return the MLflow run's id.

    ``model`` becomes an MLflow model folder that takes the raw columns. A ``function:package.module:name`` is called as
    ``name(matrix, labels, settings=…, seed=…)`` with float64 arrays and returns a fitted scikit-learn estimator, or a
    ``torch.nn.Module`` that takes a float32 matrix (and whose outputs are probabilities, for a classification).
    """
    import mlflow

    kind = check_task(task)
    labelled = read_target(read_table(train), target, kind)
    fitted = load_transform(Path(transform.path))
    check_features(fitted, target)
    learned = fit_model(labelled, fitted, kind, estimator, settings, seed)
    described = {TARGET_KEY: target, TASK_KEY: task, CLASSES_KEY: list(labelled.classes)}
    folder = Path(model.path)
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
    choose_experiment(experiment)
    with (
        tempfile.TemporaryDirectory() as scratch,
        mlflow.start_run(run_name=f"train-{current_run_id()[:10]}".rstrip("-")) as run,
    ):
        flavour = _flavour_of(learned, labelled, fitted, kind, Path(scratch))
        mlflow.log_params({**settings, "estimator": estimator, "seed": seed, "rows": labelled.rows.height})
        mlflow.set_tags(_tags(train))
        mlflow.log_artifacts(transform.path, "transform")
        flavour.module.log_model(name="model", metadata=described, **flavour.arguments)
        flavour.module.save_model(path=str(folder), metadata=described, **flavour.arguments)
    model.metadata.update(described, framework=flavour.module.__name__.removeprefix("mlflow."), run_id=run.info.run_id)
    return str(run.info.run_id)


def check_features(fitted: FittedTransform, target: str) -> None:
    """Raise `InvalidInput` if the label is among the features: the model would only repeat it."""
    if target in fitted.names:
        raise InvalidInput(
            f"The target {target!r} is one of the transform's columns.", hint=f"Fit the transform without={[target]!r}."
        )


def choose_experiment(name: str) -> None:
    """Make an MLflow experiment the one that runs are logged to; raise `InvalidInput` for a name it does not take."""
    import mlflow

    try:
        mlflow.set_experiment(name)
    except mlflow.MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        raise InvalidInput(f"MLflow takes no experiment {name!r}: {error.message}.", hint="Name another.") from error


def fit_model(
    target: Target, fitted: FittedTransform, task: Task, estimator: str, settings: Mapping[str, Any], seed: int
) -> Foreign:  # a model of any library
    """Fit a learner on the transformed rows."""
    matrix = fitted.matrix(target.rows)
    labels = target.labels if task == "regression" else target.labels.astype(np.int64)
    if estimator.startswith(FUNCTION):
        return _check_learned(load_function(estimator)(matrix, labels, settings=dict(settings), seed=seed), fitted)
    learner = make_estimator(estimator, task, settings, seed, values=matrix.size)
    texts = fitted.columns.categorical_indices if estimator == "lightgbm" and fitted.steps is None else []
    return fit_learner(learner, estimator, matrix, labels, **({"categorical_feature": texts} if texts else {}))


def _check_learned(learned: Foreign, fitted: FittedTransform) -> Foreign:  # a model of any library
    """Return what a user's function gave if it can be kept."""
    if _is_torch(learned) and (fitted.steps is not None or fitted.categorical):
        raise InvalidInput(
            "A PyTorch module reads the numeric columns as they are; this transform changes them.",
            hint="Fit the transform with style=codes and numeric columns only; scale inside the module.",
        )
    if not _is_torch(learned) and not hasattr(learned, "predict"):
        raise InvalidInput(
            f"A {type(learned).__name__} cannot predict.", hint="Return a fitted estimator or a torch.nn.Module."
        )
    return learned


def _is_torch(learned: Foreign) -> bool:  # a model of any library
    return any(kind.__module__.startswith("torch.nn") for kind in type(learned).__mro__)


def _flavour_of(learned: Foreign, target: Target, fitted: FittedTransform, task: Task, scratch: Path) -> Flavour:
    name = f"{type(learned).__module__}.{type(learned).__name__}"
    signature = make_signature(target.rows, fitted, task)
    if _is_torch(learned):
        return _torch_flavour(learned, signature)
    if name.startswith("lightgbm.") and fitted.steps is None:
        return _booster_flavour(learned, fitted, signature, scratch)
    return _sklearn_flavour(learned, fitted, target, signature)


def _booster_flavour(learned: Foreign, fitted: FittedTransform, signature: ModelSignature, scratch: Path) -> Flavour:
    """Keep the booster as text beside its transform: our own loader reads them without lightgbm."""
    import lightgbm
    import mlflow.pyfunc

    learned.booster_.save_model(scratch / BOOSTER)
    (scratch / TRANSFORM).write_bytes(fitted.columns.to_json())
    return Flavour(
        mlflow.pyfunc,
        {
            "loader_module": "mainspring.serving.pyfunc",
            "data_path": str(scratch),
            "signature": signature,
            "pip_requirements": [f"lightgbm=={lightgbm.__version__}", f"numpy=={np.__version__}", "mainspring"],
        },
    )


def _sklearn_flavour(learned: Foreign, fitted: FittedTransform, target: Target, signature: ModelSignature) -> Flavour:
    """Keep transform and estimator as one scikit-learn pipeline in a skops file, which runs no code when it is read."""
    import mlflow.sklearn
    import sklearn
    import skops
    import skops.io
    from sklearn.pipeline import Pipeline

    pipeline = Pipeline([("transform", fitted.as_steps(target.rows)), ("model", learned)])
    library = type(learned).__module__.partition(".")[0]
    requirements = [f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}", "pandas"]
    if library in {"xgboost", "lightgbm"}:
        requirements.append(f"{library}=={__import__(library).__version__}")
    return Flavour(
        mlflow.sklearn,
        {
            "sk_model": pipeline,
            "signature": signature,
            "serialization_format": "skops",
            "skops_trusted_types": skops.io.get_untrusted_types(data=skops.io.dumps(pipeline)),
            "pip_requirements": requirements,
        },
    )


def _torch_flavour(learned: Foreign, signature: ModelSignature) -> Flavour:
    """Keep a module as TorchScript, which MLflow writes as its own archive although the format is called a pickle."""
    import mlflow.pytorch
    import torch

    try:
        script = torch.jit.script(learned.eval())
    except RuntimeError as error:
        raise InvalidInput(
            f"The module {type(learned).__name__} is no TorchScript: {' '.join(str(error).split())[:300]}",
            hint="Annotate what is no tensor, and keep to what torch.jit.script takes.",
        ) from error
    return Flavour(
        mlflow.pytorch,
        {
            "pytorch_model": script,
            "serialization_format": "pickle",
            "signature": signature,
            "pip_requirements": [f"torch=={torch.__version__}"],
        },
    )


def _tags(train: ArtifactFile) -> dict[str, str]:
    known = {"dataset": train.metadata.get("dataset"), "snapshot": train.metadata.get(DIGEST_KEY)}
    return {name: str(value) for name, value in known.items() if value}
