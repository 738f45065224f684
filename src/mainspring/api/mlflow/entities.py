"""Our records as MLflow's messages."""

from __future__ import annotations

from collections.abc import Sequence

from mainspring.api.mlflow.wire import Wire, pairs, set_fields, write_number
from mainspring.registry import ModelVersion, RegisteredModel
from mainspring.tracking import DatasetInput, Experiment, FileInfo, LoggedModel, Metric, ModelLink, Param, Run


def experiment_message(experiment: Experiment) -> Wire:
    """Return MLflow's Experiment."""
    return set_fields(
        experiment_id=experiment.id,
        name=experiment.name,
        artifact_location=experiment.artifact_location,
        lifecycle_stage=experiment.lifecycle_stage,
        last_update_time=experiment.updated_at,
        creation_time=experiment.created_at,
        tags=pairs(experiment.tags),
    )


def run_info_message(run: Run) -> Wire:
    """Return MLflow's RunInfo."""
    return set_fields(
        run_uuid=run.id,
        run_id=run.id,
        run_name=run.name,
        experiment_id=run.experiment_id,
        user_id=run.user,
        status=run.status,
        start_time=run.start_time,
        end_time=run.end_time,
        artifact_uri=run.artifact_uri,
        lifecycle_stage=run.lifecycle_stage,
    )


def run_message(run: Run) -> Wire:
    """Return MLflow's Run."""
    inputs = [ModelLink(kind="input", model_id=link.model_id) for link in run.models if link.kind == "input"]
    return {
        "info": run_info_message(run),
        "data": set_fields(
            metrics=[metric_message(metric) for metric in run.metrics],
            params=[param_message(param) for param in run.params],
            tags=pairs(run.tags),
        ),
        "inputs": set_fields(
            dataset_inputs=[dataset_message(dataset) for dataset in run.datasets],
            model_inputs=[{"model_id": link.model_id} for link in inputs],
        ),
        "outputs": set_fields(
            model_outputs=[
                {"model_id": link.model_id, "step": link.step} for link in run.models if link.kind == "output"
            ]
        ),
    }


def metric_message(metric: Metric) -> Wire:
    """Return MLflow's Metric."""
    return {
        "key": metric.key,
        "value": write_number(metric.value),
        "timestamp": metric.timestamp,
        "step": metric.step,
    }


def param_message(param: Param) -> Wire:
    """Return MLflow's Param."""
    return {"key": param.key, "value": param.value}


def dataset_message(dataset: DatasetInput) -> Wire:
    """Return MLflow's DatasetInput."""
    described = set_fields(
        name=dataset.name,
        digest=dataset.digest,
        source_type=dataset.source_type,
        source=dataset.source,
        schema=dataset.schema,
        profile=dataset.profile,
    )
    return set_fields(tags=pairs(dataset.tags), dataset=described)


def file_message(file: FileInfo, *, below: str = "") -> Wire:
    """Return MLflow's FileInfo, with a path relative to the folder, or to what ``below`` is relative to."""
    path = f"{below}/{file.path}" if below else file.path
    return set_fields(path=path, is_dir=file.is_folder, file_size=file.size)


def logged_model_message(model: LoggedModel) -> Wire:
    """Return MLflow's LoggedModel."""
    info = set_fields(
        model_id=model.id,
        experiment_id=model.experiment_id,
        name=model.name,
        creation_timestamp_ms=model.created_at,
        last_updated_timestamp_ms=model.updated_at,
        artifact_uri=model.artifact_uri,
        status=model.status,
        model_type=model.model_type,
        source_run_id=model.source_run_id or "",
        tags=pairs(model.tags),
    )
    metrics = [
        {
            **metric_message(found.metric),
            **{
                name: value
                for name, value in (
                    ("dataset_name", found.metric.dataset_name),
                    ("dataset_digest", found.metric.dataset_digest),
                )
                if value
            },
            "model_id": model.id,
            "run_id": found.run_id,
        }
        for found in model.metrics
    ]
    return {
        "info": info,
        "data": set_fields(params=[param_message(param) for param in model.params], metrics=metrics),
    }


def registered_model_message(model: RegisteredModel, latest: Sequence[ModelVersion] = ()) -> Wire:
    """Return MLflow's RegisteredModel with the newest version of each stage."""
    return set_fields(
        name=model.name,
        creation_timestamp=model.created_at,
        last_updated_timestamp=model.updated_at,
        description=model.description or None,
        latest_versions=[version_message(version) for version in latest],
        tags=pairs(model.tags),
        aliases=[{"alias": alias, "version": version} for alias, version in model.aliases.items()],
    )


def version_message(version: ModelVersion) -> Wire:
    """Return MLflow's ModelVersion."""
    return set_fields(
        name=version.name,
        version=version.version,
        creation_timestamp=version.created_at,
        last_updated_timestamp=version.updated_at,
        current_stage=version.stage,
        description=version.description,
        source=version.source,
        run_id=version.run_id,
        status="READY",
        status_message=version.warning or None,
        tags=pairs(version.tags),
        run_link=version.run_link,
        aliases=version.aliases,
    )
