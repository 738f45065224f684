"""Tune: search a learner's settings with Optuna, seeded, every trial a nested MLflow run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.estimators import FUNCTION, Task, check_task, fit_learner, make_estimator
from mainspring.components.measures import Floats, row_losses
from mainspring.components.tables import read_table
from mainspring.components.targets import read_target
from mainspring.components.training import check_features, choose_experiment
from mainspring.components.transforms import load_transform
from mainspring.core import Foreign, InvalidInput, Unavailable
from mainspring.pipelines import current_run_id


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a setting may be: a number from ``low`` to ``high``, or one of the ``choices``."""

    type: Literal["int", "float", "choice"] = "float"
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: list[str | int | float | bool | None] = []


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One try: its settings and its mean loss over the folds (nats, or squared error)."""

    number: int
    settings: dict[str, Any]
    loss: float
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a search learns from: the transformed rows, and which fold each is in."""

    matrix: Floats
    labels: Floats
    folds: NDArray[np.int64]
    classes: int


def tune_model(
    train: ArtifactFile,
    *,
    transform: ArtifactFile,
    target: str,
    task: str,
    estimator: str,
    space: Mapping[str, Any],
    experiment: str,
    trials: ArtifactFile,
    n_trials: int = 20,
    folds: int = 3,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the settings with the least cross-validated loss: ``settings``, and the best of the ``space`` over them.

    The space maps a setting to ``{"type": "int", "low": 10, "high": 200, "log": true}``, ``{"type": "float", …}`` or
    ``{"type": "choice", "choices": […]}``. The transform is the one that was fitted on all training rows. The same seed
    and rows give the same trials.
    """
    import mlflow

    kind, ranges = check_task(task), read_space(space)
    if n_trials < 1:
        raise InvalidInput(f"{n_trials} trials find nothing.", hint="Use n_trials=1 or more.")
    if estimator.startswith(FUNCTION):
        raise InvalidInput("A function of your own is not searched here.", hint="Search inside it; it gets the seed.")
    labelled = read_target(read_table(train), target, kind)
    fitted = load_transform(Path(transform.path))
    check_features(fitted, target)
    matrix = fitted.matrix(labelled.rows)
    rows = Rows(matrix, labelled.labels, assign_folds(len(matrix), folds, seed), len(labelled.classes))
    choose_experiment(experiment)
    with mlflow.start_run(run_name=f"tune-{current_run_id()[:10]}".rstrip("-")) as run:
        mlflow.log_params({"estimator": estimator, "n_trials": n_trials, "folds": folds, "seed": seed})
        found = [
            _log_trial(trial)
            for trial in search(rows, kind, estimator, dict(settings or {}), ranges, n_trials=n_trials, seed=seed)
        ]
        best = min(found, key=lambda trial: (trial.loss, trial.number))
        mlflow.log_params({f"best_{name}": value for name, value in best.settings.items()})
        mlflow.log_metric("best_loss", best.loss)
    Path(trials.path).write_bytes(msgspec.json.encode(found))
    trials.metadata.update(best_loss=best.loss, best_trial=best.number, run_id=run.info.run_id)
    return best.settings


def search(
    rows: Rows, task: Task, estimator: str, settings: Mapping[str, Any], space: Mapping[str, Range], *, n_trials: int,
    seed: int,
) -> Iterator[Trial]:  # fmt: skip
    """Yield trials as a seeded tree-structured Parzen estimator proposes them."""
    optuna = _import_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for number in range(n_trials):
        asked = study.ask()
        chosen = {**settings, **{name: _suggest(asked, name, wanted) for name, wanted in space.items()}}
        loss = cross_validate(rows, task, estimator, chosen, seed)
        study.tell(asked, loss)
        yield Trial(number=number, settings=chosen, loss=loss)


def cross_validate(rows: Rows, task: Task, estimator: str, settings: Mapping[str, Any], seed: int) -> float:
    """Return the mean loss of all rows, each predicted by a learner that has not seen its fold."""
    losses = np.empty(len(rows.labels))
    labels = rows.labels if task == "regression" else rows.labels.astype(np.int64)
    for fold in np.unique(rows.folds):
        held = rows.folds == fold
        missing = rows.classes - len(np.unique(labels[~held])) if task != "regression" else 0
        if missing:
            raise InvalidInput(
                f"Without fold {fold} {missing} of {rows.classes} classes have no row left of {len(labels)}.",
                hint="Use more rows of the rare class, or fewer folds.",
            )
        learner = make_estimator(estimator, task, settings, seed, values=rows.matrix.size)
        fit_learner(learner, estimator, rows.matrix[~held], labels[~held])
        losses[held] = row_losses(task, _scores(learner, rows, held, task), rows.labels[held])
    return float(losses.mean())


def assign_folds(rows: int, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row: equally large, drawn with the seed."""
    if not 2 <= folds <= rows:
        raise InvalidInput(f"{rows} rows cannot be cut into {folds} folds.", hint="Use 2 or more, at most one per row.")
    return np.random.default_rng(seed).permutation(np.arange(rows) % folds)


def read_space(space: Mapping[str, Any]) -> dict[str, Range]:
    """Check a space as it came with the parameters of a run."""
    try:
        found = msgspec.convert(dict(space), dict[str, Range])
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"The space to search is not right: {error}.",
            hint='Write {"max_depth": {"type": "int", "low": 2, "high": 8}}.',
        ) from error
    for name, wanted in found.items():
        bad_range = wanted.type != "choice" and not wanted.low < wanted.high
        if bad_range or (wanted.log and wanted.low <= 0) or (wanted.type == "choice" and not wanted.choices):
            raise InvalidInput(
                f"There is nothing to choose {name!r} from.", hint="Give low < high (> 0 if log), or choices."
            )
    if not found:
        raise InvalidInput("The space to search is empty.", hint="Name at least one setting.")
    return found


def _suggest(trial: Foreign, name: str, wanted: Range) -> Foreign:  # Optuna's trial, a setting
    if wanted.type == "choice":
        return trial.suggest_categorical(name, wanted.choices)
    if wanted.type == "int":
        return trial.suggest_int(name, int(wanted.low), int(wanted.high), log=wanted.log)
    return trial.suggest_float(name, wanted.low, wanted.high, log=wanted.log)


def _scores(learner: Foreign, rows: Rows, held: NDArray[np.bool_], task: Task) -> Floats:  # an estimator
    if task == "regression":
        return np.asarray(learner.predict(rows.matrix[held]), dtype=np.float64)
    scores = np.full((int(held.sum()), rows.classes), 0.0)
    scores[:, np.asarray(learner.classes_, dtype=np.int64)] = learner.predict_proba(rows.matrix[held])
    return scores


def _log_trial(trial: Trial) -> Trial:
    import mlflow

    with mlflow.start_run(run_name=f"trial-{trial.number}", nested=True) as run:
        mlflow.log_params(trial.settings)
        mlflow.log_metric("loss", trial.loss)
    return msgspec.structs.replace(trial, run_id=run.info.run_id)


def _import_optuna() -> Foreign:  # a module
    try:
        import optuna
    except ImportError as error:
        raise Unavailable("Tuning needs Optuna.", hint="pip install 'mainspring[tune]'") from error
    return optuna
