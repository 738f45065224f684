"""Experiments, runs, params, metrics, artifacts and logged models, as MLflow knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.core.lazy import names_of

if TYPE_CHECKING:
    from mainspring.tracking.artifacts import (
        FileInfo,
        check_path,
        check_writable,
        delete_files,
        get_file,
        list_folder,
        path_of_uri,
        put_file,
        read_run_artifact,
        snapshot_folder,
        tree_uri,
    )
    from mainspring.tracking.checks import check_key, check_length, check_plain, check_tags
    from mainspring.tracking.curves import Band, metric_bands, sample_history
    from mainspring.tracking.dataset_search import DatasetSummary, search_datasets
    from mainspring.tracking.default import DEFAULT_ID, ensure_default_experiment
    from mainspring.tracking.documents import (
        MetricDocument,
        RunDocument,
        RunInfo,
        document_of,
        metric_documents,
        run_documents,
        run_info,
    )
    from mainspring.tracking.experiments import (
        Experiment,
        ExperimentPage,
        create_experiment,
        delete_experiment,
        delete_experiment_tag,
        get_experiment,
        get_experiment_by_name,
        rename_experiment,
        restore_experiment,
        search_experiments,
        set_experiment_tags,
    )
    from mainspring.tracking.filters import Comparison, compare, compare_tag, order_clause, parse_filter, parse_order
    from mainspring.tracking.inputs import DatasetInput, ModelLink, log_datasets, log_models
    from mainspring.tracking.locations import check_location, is_local, local_folder, proxied_path, root_location
    from mainspring.tracking.logged_models import (
        DatasetName,
        LoggedModel,
        LoggedModelPage,
        ModelMetric,
        ModelOrder,
        create_logged_model,
        delete_logged_model,
        delete_model_tag,
        finalize_logged_model,
        get_logged_model,
        log_model_params,
        search_logged_models,
        set_model_tags,
    )
    from mainspring.tracking.metrics import Metric, history_rows, log_metrics, metric_history
    from mainspring.tracking.model_metrics import check_model, log_model_metrics
    from mainspring.tracking.paging import check_max_results, next_token, read_offset
    from mainspring.tracking.runs import (
        NAME_TAG,
        STATUSES,
        Param,
        Run,
        RunKey,
        change_run,
        create_run,
        delete_run,
        delete_tag,
        find_run,
        get_run,
        log_batch,
        restore_run,
        set_tags,
        update_run,
    )
    from mainspring.tracking.search import NumberPage, RunPage, search_numbers, search_runs
    from mainspring.tracking.upserts import upsert

__all__ = [
    "DEFAULT_ID",
    "NAME_TAG",
    "STATUSES",
    "Band",
    "Comparison",
    "DatasetInput",
    "DatasetName",
    "DatasetSummary",
    "Experiment",
    "ExperimentPage",
    "FileInfo",
    "LoggedModel",
    "LoggedModelPage",
    "Metric",
    "MetricDocument",
    "ModelLink",
    "ModelMetric",
    "ModelOrder",
    "NumberPage",
    "Param",
    "Run",
    "RunDocument",
    "RunInfo",
    "RunKey",
    "RunPage",
    "change_run",
    "check_key",
    "check_length",
    "check_location",
    "check_max_results",
    "check_model",
    "check_path",
    "check_plain",
    "check_tags",
    "check_writable",
    "compare",
    "compare_tag",
    "create_experiment",
    "create_logged_model",
    "create_run",
    "delete_experiment",
    "delete_experiment_tag",
    "delete_files",
    "delete_logged_model",
    "delete_model_tag",
    "delete_run",
    "delete_tag",
    "document_of",
    "ensure_default_experiment",
    "finalize_logged_model",
    "find_run",
    "get_experiment",
    "get_experiment_by_name",
    "get_file",
    "get_logged_model",
    "get_run",
    "history_rows",
    "is_local",
    "list_folder",
    "local_folder",
    "log_batch",
    "log_datasets",
    "log_metrics",
    "log_model_metrics",
    "log_model_params",
    "log_models",
    "metric_bands",
    "metric_documents",
    "metric_history",
    "next_token",
    "order_clause",
    "parse_filter",
    "parse_order",
    "path_of_uri",
    "proxied_path",
    "put_file",
    "read_offset",
    "read_run_artifact",
    "rename_experiment",
    "restore_experiment",
    "restore_run",
    "root_location",
    "run_documents",
    "run_info",
    "sample_history",
    "search_datasets",
    "search_experiments",
    "search_logged_models",
    "search_numbers",
    "search_runs",
    "set_experiment_tags",
    "set_model_tags",
    "set_tags",
    "snapshot_folder",
    "tree_uri",
    "update_run",
    "upsert",
]

_LIGHT = (
    "checks",
    "paging",
    "metrics",
    "model_metrics",
    "inputs",
    "runs",
    "documents",
    "locations",
    "default",
    "curves",
)
"""The modules that come without SQLAlchemy: a server that only takes metrics needs no others."""

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, _LIGHT)
