"""Components on models: tune, train, evaluate, gate, register. They log to the MLflow server of the environment."""
# ruff: noqa: I002, UP045, D413 - KFP reads the annotations as they are when the module is imported

from typing import Any, Optional

from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from mainspring.components.kfp.making import component


@component("mlflow", "sklearn", "lightgbm", "xgboost")
def train(
    train: Input[Dataset],
    transform: Input[Artifact],
    target: str,
    task: str,
    experiment: str,
    model: Output[Model],
    estimator: str = "lightgbm",
    settings: dict[str, Any] = {},  # noqa: B006 - KFP keeps it as a value
    seed: int = 0,
) -> str:
    """Fit a learner behind its transform and log it with MLflow.

    Args:
        train: Rows to learn from.
        transform: From fit_transform; becomes a part of the model.
        target: Column of labels.
        task: binary, multiclass or regression.
        experiment: MLflow experiment.
        model: An MLflow model folder that takes the raw columns.
        estimator: lightgbm, xgboost, sklearn.linear_model.LogisticRegression and the like, or
            function:package.module:name for your own (PyTorch too).
        settings: Of the learner.
        seed: Same seed, same model.

    Returns:
        The id of the MLflow run.
    """
    from mainspring import components

    return components.train_model(
        train,
        transform=transform,
        target=target,
        task=task,
        estimator=estimator,
        settings=settings,
        experiment=experiment,
        model=model,
        seed=seed,
    )


@component("mlflow", "sklearn", "lightgbm", "xgboost", "tune")
def tune(
    train: Input[Dataset],
    transform: Input[Artifact],
    target: str,
    task: str,
    experiment: str,
    space: dict[str, Any],
    trials: Output[Artifact],
    estimator: str = "lightgbm",
    settings: dict[str, Any] = {},  # noqa: B006 - KFP keeps it as a value
    n_trials: int = 20,
    folds: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Search settings with Optuna by cross-validation; every trial is a nested MLflow run.

    Args:
        train: Rows to learn from.
        transform: From fit_transform.
        target: Column of labels.
        task: binary, multiclass or regression.
        experiment: MLflow experiment.
        space: Setting to {"type": "int" | "float" | "choice", "low", "high", "log", "choices"}.
        trials: Every trial, as JSON.
        estimator: As for train, but no function of your own.
        settings: That stay as they are.
        n_trials: How many to try.
        folds: Of the cross-validation.
        seed: Same seed, same trials.

    Returns:
        The best settings, for train.
    """
    from mainspring import components

    return components.tune_model(
        train,
        transform=transform,
        target=target,
        task=task,
        estimator=estimator,
        space=space,
        experiment=experiment,
        trials=trials,
        n_trials=n_trials,
        folds=folds,
        settings=settings,
        seed=seed,
    )


@component("mlflow", "sklearn", "lightgbm", "xgboost")
def evaluate(
    data: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    charts: Output[ClassificationMetrics],
    slices: list[str] = [],  # noqa: B006 - KFP keeps it as a value
    run_id: str = "",
) -> None:
    """Measure a model on labelled rows: with intervals, slice by slice, through the code that serves.

    Args:
        data: Rows to judge on.
        model: From train.
        evaluation: The whole report, as JSON: measures, slices, row losses, data of the plots.
        metrics: The measures.
        charts: ROC curve and confusion matrix, of a classification.
        slices: Columns; each value that is frequent enough is a slice.
        run_id: MLflow run to log to, from train.
    """
    from mainspring import components

    report = components.evaluate_folder(data, model=model, evaluation=evaluation, slices=slices, run_id=run_id)
    for name, found in report.measures.items():
        if found.value is not None:
            metrics.log_metric(name, found.value)
    if report.plots.roc is not None:
        charts.log_roc_curve(report.plots.roc.x, report.plots.roc.y, report.plots.roc.threshold)
    if report.plots.confusion:
        charts.log_confusion_matrix([str(label) for label in report.classes], report.plots.confusion)


@component("mlflow", "sklearn", "lightgbm", "xgboost")
def evaluate_registered(
    data: Input[Dataset],
    version: str,
    evaluation: Output[Artifact],
    slices: list[str] = [],  # noqa: B006 - KFP keeps it as a value
) -> None:
    """Measure a registered version of the project on the same rows as the candidate; null if there is none yet.

    Args:
        data: Rows to judge on.
        version: models:/NAME@champion or models:/NAME/3.
        evaluation: As of evaluate.
        slices: As of evaluate.
    """
    from mainspring import components

    components.evaluate_registered(data, version=version, evaluation=evaluation, slices=slices)


@component()
def gate(
    candidate: Input[Artifact],
    model: str,
    verdict: Output[Artifact],
    champion: Optional[Input[Artifact]] = None,
    min_gain: float = 0.0,
    max_slice_loss: float = 0.02,
) -> bool:
    """Say whether a candidate may go further: better than the champion (or a constant), and nowhere much worse.

    Args:
        candidate: From evaluate.
        model: The name it would be registered under.
        verdict: Every check and the reason, as JSON.
        champion: From evaluate_registered, on the same rows.
        min_gain: By how much the mean loss has to be smaller.
        max_slice_loss: How much worse a slice may be.

    Returns:
        Whether it passed; use it in dsl.If.
    """
    from mainspring import components

    return components.gate_reports(
        candidate,
        champion=champion,
        verdict=verdict,
        model=model,
        min_gain=min_gain,
        max_slice_loss=max_slice_loss,
    )


@component("mlflow")
def register(
    name: str, run_id: str, verdict: Input[Artifact], evaluation: Input[Artifact], registered: Output[Artifact]
) -> str:
    """Register the model of an MLflow run.

    Args:
        name: Of the registered model.
        run_id: From train.
        verdict: From gate; becomes a tag.
        evaluation: From evaluate; its measures become tags.
        registered: Its metadata name the version.

    Returns:
        The version.
    """
    from mainspring import components

    return components.register_trained(
        name, run_id=run_id, verdict=verdict, evaluation=evaluation, registered=registered
    )
