"""Scores of a model folder, through the code that answers requests: what is evaluated is what will serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mainspring.components.estimators import Task, check_task
from mainspring.components.targets import Label
from mainspring.components.training import CLASSES_KEY, TARGET_KEY, TASK_KEY
from mainspring.core import InvalidInput, NotFound

if TYPE_CHECKING:
    import polars as pl

    from mainspring.serving import ModelReference
    from mainspring.serving.models import LoadedModel

BOOSTERS = (
    "xgboost.core.Booster", "xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRegressor",
    "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier", "lightgbm.sklearn.LGBMRegressor",
    "collections.OrderedDict",
)  # fmt: skip
"""Types in a skops file that a step trusts in a model which a step before it has trained."""
PART = 8_192
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model that was trained by `train_model`, loaded for scoring."""

    model: LoadedModel
    target: str
    task: Task
    classes: tuple[Label, ...]

    def scores(self, rows: pl.DataFrame) -> Floats:
        """Return predictions (n,) for a regression, probabilities (n, classes) for a classification."""
        parts = [self._score(part) for part in rows.iter_slices(PART)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _score(self, rows: pl.DataFrame) -> Floats:
        from mainspring.serving.validation import check_params, check_rows

        plan = self.model.plan
        wanted = [column.name for column in plan.columns if column.name in rows.columns]
        records: list[dict[str, Any]] = rows.select(wanted).to_dicts() if wanted else rows.to_dicts()
        try:
            checked = check_rows(plan, records, params=check_params(plan, None))
        except InvalidInput as error:
            raise InvalidInput(
                _shorten(error.message), hint="Check these columns against the training data."
            ) from error
        ask = self.model.methods.get("predict_proba", self.model.predict) if self.classes else self.model.predict
        answered = np.asarray(ask(checked).primary, dtype=np.float64)
        return self._as_probabilities(answered) if self.classes else answered.reshape(len(records))

    def _as_probabilities(self, answered: Floats) -> Floats:
        if answered.ndim == 2 and answered.shape[1] == len(self.classes):
            return answered
        if len(self.classes) == 2 and answered.size == len(answered):
            positive = answered.reshape(-1)
            return np.stack([1.0 - positive, positive], axis=1)
        raise InvalidInput(
            f"The model answers with shape {answered.shape}, not with probabilities of {len(self.classes)} classes.",
            hint="Train one that gives probabilities.",
        )


def _shorten(message: str) -> str:
    """Return the first of the problems of many rows, and how many there are."""
    first, *others = message.split("; ")
    return f"{first}, and {len(others)} more like it." if others else f"{first}."


def load_scorer(folder: Path, *, trust_types: Sequence[str] = ()) -> Scorer:
    """Load an MLflow model folder that a step has trained."""
    from mainspring.serving.models import load_model

    reference = folder_reference(folder)
    description = _metadata(folder)
    if TASK_KEY not in description:
        raise InvalidInput(f"The model in {folder} does not say what it predicts.", hint="Train it with train_model.")
    model = load_model(reference, trust_types=(*BOOSTERS, *trust_types))
    return Scorer(
        model, str(description[TARGET_KEY]), check_task(str(description[TASK_KEY])), tuple(description[CLASSES_KEY])
    )


def folder_reference(folder: Path) -> ModelReference:
    """Return what names a model folder to the serving code: its digest is its version."""
    from mainspring.serving import ModelReference
    from mainspring.serving.mlmodel import tree_digest

    if not (folder / "MLmodel").is_file():
        raise NotFound(f"There is no model in {folder}.", hint="Give the output of train_model.")
    digest = tree_digest(folder)
    return ModelReference(
        name=folder.name, version=digest.removeprefix("sha256:")[:12], digest=digest, folder=str(folder.resolve())
    )


def _metadata(folder: Path) -> dict[str, Any]:
    import yaml

    found = yaml.safe_load((folder / "MLmodel").read_text())
    return dict(found.get("metadata") or {})
