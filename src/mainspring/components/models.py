"""Steps on models: train, evaluate on what is newest, register.

They log with the unmodified MLflow client to the tracking server named in the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.data import DIGEST_KEY, read_dataset, split_newest
from mainspring.delivery import Evaluation, SliceEvaluation
from mainspring.features import Transform, fit_transform
from mainspring.monitoring import auc, log_loss, row_losses
from mainspring.pipelines import current_run_id, task_store
from mainspring.registry import PIPELINE_RUN_TAG, materialise, resolve
from mainspring.serving.pyfunc import BOOSTER, TRANSFORM

if TYPE_CHECKING:
    import polars as pl
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

MIN_SLICE_ROWS = 200
TRAIN_SAMPLE = 50_000
CURVE_SAMPLE = 10_000
"""Training rows the loss is followed on, round by round."""


def train_lightgbm(
    data: ArtifactFile,
    *,
    profile: ArtifactFile,
    schema: ArtifactFile,
    experiment: str,
    target: str,
    numeric: Sequence[str],
    categorical: Sequence[str],
    time_column: str,
    holdout_days: float,
    settings: Mapping[str, Any],
    model: ArtifactFile,
) -> str:
    """Fit a LightGBM model on all labelled rows but the newest ``holdout_days``; return its MLflow run id.

    ``model`` becomes a folder with the booster as text and the fitted transform that travels with it.
    """
    import lightgbm
    import mlflow
    import polars as pl

    rows, _ = split_newest(read_dataset(data), time_column=time_column, days=holdout_days)
    rows = rows.filter(pl.col(target).is_not_null())
    transform = fit_transform(rows, numeric=numeric, categorical=categorical)
    matrix, labels = transform.apply(_columns(rows, transform)), rows[target].to_numpy()
    with task_store() as store:
        seed = store.settings.values.seed
    parameters = {
        **settings,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 2,
        "verbosity": -1,
    }
    rounds = int(parameters.pop("n_estimators"))
    history: dict[str, dict[str, list[float]]] = {}
    train_set = lightgbm.Dataset(matrix, labels, categorical_feature=transform.categorical_indices)
    watched = np.random.default_rng(seed).choice(len(labels), min(len(labels), CURVE_SAMPLE), replace=False)
    followed = train_set.create_valid(matrix[watched], labels[watched])
    booster = lightgbm.train(
        parameters, train_set, rounds, valid_sets=[followed], valid_names=["train"],
        callbacks=[lightgbm.record_evaluation(history)],
    )  # fmt: skip

    folder = Path(model.path)
    folder.mkdir(parents=True, exist_ok=True)
    booster.save_model(folder / BOOSTER)
    (folder / TRANSFORM).write_bytes(transform.to_json())

    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"train-{current_run_id()[:10]}") as run:
        mlflow.log_params({**settings, "seed": seed, "rows": rows.height, "holdout_days": holdout_days})
        mlflow.set_tags({"dataset": data.metadata["dataset"], "snapshot": data.metadata[DIGEST_KEY]})
        _log_curve(run.info.run_id, "train_log_loss", next(iter(history["train"].values())))
        mlflow.log_artifact(profile.path, "data")
        mlflow.log_artifact(schema.path, "data")
        mlflow.pyfunc.log_model(
            name="model",
            loader_module="mainspring.serving.pyfunc",
            data_path=str(folder),
            signature=_signature(rows, transform),
            pip_requirements=[f"lightgbm=={lightgbm.__version__}", f"numpy=={np.__version__}", "mainspring"],
        )
    return str(run.info.run_id)


def evaluate_model(
    data: ArtifactFile,
    *,
    model: ArtifactFile,
    run_id: str,
    target: str,
    slices: Sequence[str],
    time_column: str,
    holdout_days: float,
    evaluation: ArtifactFile,
    metrics: ArtifactFile,
) -> None:
    """Evaluate a model folder on the newest ``holdout_days``, also slice by slice, and on its training rows.

    Of these at most `TRAIN_SAMPLE` are drawn at random: enough to see whether the model has learned them by heart.
    """
    import mlflow

    train_rows, test_rows = split_newest(read_dataset(data), time_column=time_column, days=holdout_days)
    sample = train_rows.sample(min(train_rows.height, TRAIN_SAMPLE), seed=0)
    on_train = _evaluate(Path(model.path), sample, target=target, slices=())
    on_test = _evaluate(Path(model.path), test_rows, target=target, slices=slices)
    Path(evaluation.path).write_bytes(msgspec.json.encode(on_test))
    values = {
        "train_log_loss": on_train.log_loss,
        "train_auc": on_train.auc,
        "test_log_loss": on_test.log_loss,
        "test_auc": on_test.auc,
    }
    metrics.metadata.update(values)
    client = mlflow.MlflowClient()
    for name, value in values.items():
        client.log_metric(run_id, name, value)
    client.log_artifact(run_id, evaluation.path, "evaluation")


def evaluate_version(
    data: ArtifactFile,
    *,
    version: str,
    target: str,
    slices: Sequence[str],
    time_column: str,
    holdout_days: float,
    evaluation: ArtifactFile,
) -> None:
    """Evaluate a registered version (``models:/NAME/3``) on the newest ``holdout_days``; ``null`` if there is none."""
    if not version:
        Path(evaluation.path).write_bytes(b"null")
        return
    _, test_rows = split_newest(read_dataset(data), time_column=time_column, days=holdout_days)
    with task_store() as store:
        with store.database.read() as connection:
            found = resolve(connection, version)
        folder = materialise(store.blobs, found.digest, store.settings.home / "models")
    (booster,) = folder.rglob(BOOSTER)
    result = _evaluate(booster.parent, test_rows, target=target, slices=slices)
    Path(evaluation.path).write_bytes(msgspec.json.encode(result))


def register_model(name: str, *, run_id: str, verdict: ArtifactFile, model: ArtifactFile) -> str:
    """Register the run's logged model under ``name`` with what monitors need to judge it later; return the version."""
    import mlflow

    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    outputs = run.outputs.model_outputs
    with_tags = {
        PIPELINE_RUN_TAG: current_run_id(),
        "snapshot": run.data.tags["snapshot"],
        "holdout_log_loss": repr(run.data.metrics["test_log_loss"]),
        "verdict": msgspec.json.decode(Path(verdict.path).read_bytes())["reason"],
    }
    try:
        client.create_registered_model(name)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    again = [found for found in client.search_model_versions(f"name='{name}'") if _is_ours(found)]
    version = (
        again[0]
        if again
        else client.create_model_version(
            name, f"models:/{outputs[0].model_id}", run_id, tags=with_tags, model_id=outputs[0].model_id
        )
    )
    model.metadata["registered"] = f"models:/{name}/{version.version}"
    return str(version.version)


def _is_ours(version: ModelVersion) -> bool:
    """Say whether this pipeline run has registered the version already, before it was killed."""
    return bool(current_run_id()) and version.tags.get(PIPELINE_RUN_TAG) == current_run_id()


def _evaluate(folder: Path, rows: pl.DataFrame, *, target: str, slices: Sequence[str]) -> Evaluation:
    import lightgbm
    import polars as pl

    rows = rows.filter(pl.col(target).is_not_null())
    transform = Transform.from_json((folder / TRANSFORM).read_bytes())
    booster = lightgbm.Booster(model_file=str(folder / BOOSTER))
    scores = np.asarray(booster.predict(transform.apply(_columns(rows, transform)), num_threads=2))
    labels = rows[target].to_numpy().astype(float)
    by_slice = [
        SliceEvaluation(
            name=f"{column}={value}",
            rows=int(mask.sum()),
            log_loss=log_loss(scores[mask], labels[mask]).value,
        )
        for column in slices
        for value in rows[column].drop_nulls().unique().sort()
        if (mask := (rows[column] == value).fill_null(False).to_numpy()).sum() >= MIN_SLICE_ROWS
    ]
    return Evaluation(
        rows=rows.height,
        log_loss=log_loss(scores, labels).value,
        auc=auc(scores, labels).value,
        base_rate=float(labels.mean()),
        losses=[round(float(loss), 6) for loss in row_losses(scores, labels)] if slices else [],
        slices=by_slice,
    )


def _columns(rows: pl.DataFrame, transform: Transform) -> dict[str, pl.Series]:
    return rows.select(transform.feature_names).to_dict()


def _signature(rows: pl.DataFrame, transform: Transform) -> ModelSignature:
    from mlflow.models import ModelSignature as Signature
    from mlflow.types import ColSpec, Schema

    categorical = {transform.feature_names[index] for index in transform.categorical_indices}
    inputs = [
        ColSpec(_column_type(rows[name], name in categorical), name, required=rows[name].null_count() == 0)
        for name in transform.feature_names
    ]
    return Signature(inputs=Schema(inputs), outputs=Schema([ColSpec("double")]))


def _column_type(values: pl.Series, is_categorical: bool) -> str:
    """Return MLflow's type; whole numbers that are never missing stay whole, so that nothing else is accepted."""
    if is_categorical:
        return "string"
    return "long" if values.dtype.is_integer() and values.null_count() == 0 else "double"


def _log_curve(run_id: str, key: str, values: Sequence[float]) -> None:
    import mlflow
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()
    now = client.get_run(run_id).info.start_time
    client.log_batch(run_id, metrics=[Metric(key, value, now, step) for step, value in enumerate(values)])
