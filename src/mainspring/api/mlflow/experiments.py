"""MLflow's experiment endpoints."""

from __future__ import annotations

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import experiment_message
from mainspring.api.mlflow.wire import Int64, KeyValue, Required, Wire, set_fields, to_tags
from mainspring.core import InvalidInput
from mainspring.lineage import Store

VIEWS = ("ACTIVE_ONLY", "DELETED_ONLY", "ALL")
MAX_SEARCHED_EXPERIMENTS = 20


class CreateExperiment(msgspec.Struct):
    """Make an experiment."""

    name: Required
    artifact_location: str | None = None
    tags: list[KeyValue] | None = None


class ExperimentId(msgspec.Struct):
    """Name an experiment by id."""

    experiment_id: Required


class ExperimentName(msgspec.Struct):
    """Name an experiment by name."""

    experiment_name: Required


class SearchExperiments(msgspec.Struct):
    """Find experiments."""

    max_results: Int64 | None = None
    page_token: str | None = None
    filter: str | None = None
    order_by: list[str] | None = None
    view_type: str | None = None


class RenameExperiment(msgspec.Struct):
    """Give an experiment another name."""

    experiment_id: Required
    new_name: Required


class SetExperimentTag(msgspec.Struct):
    """Set one tag."""

    experiment_id: Required
    key: Required
    value: str = ""


class DeleteExperimentTag(msgspec.Struct):
    """Remove one tag."""

    experiment_id: Required
    key: Required


class SearchDatasets(msgspec.Struct):
    """Find the datasets the runs of experiments used."""

    experiment_ids: list[str] | None = None


def check_view(view: str | None) -> str:
    """Return a view type MLflow knows; ACTIVE_ONLY if none is given."""
    if view is not None and view not in VIEWS:
        raise InvalidInput(
            f"Invalid value {view[:50]!r} for parameter 'view_type' supplied", hint="ACTIVE_ONLY or ALL."
        )
    return view or "ACTIVE_ONLY"


def create(store: Store, request: CreateExperiment) -> Wire:
    """Answer experiments/create."""
    with store.database.write() as connection:
        id = tracking.create_experiment(
            connection, store.clock, request.name, artifact_location=request.artifact_location or "",
            artifact_root=store.settings.values.artifact_root, tags=to_tags(request.tags),
        )  # fmt: skip
    return {"experiment_id": id}


def get(store: Store, request: ExperimentId) -> Wire:
    """Answer experiments/get."""
    with store.database.read() as connection:
        return {"experiment": experiment_message(tracking.get_experiment(connection, request.experiment_id))}


def get_by_name(store: Store, request: ExperimentName) -> Wire:
    """Answer experiments/get-by-name."""
    with store.database.read() as connection:
        return {"experiment": experiment_message(tracking.get_experiment_by_name(connection, request.experiment_name))}


def search(store: Store, request: SearchExperiments) -> Wire:
    """Answer experiments/search."""
    with store.database.read() as connection:
        page = tracking.search_experiments(
            connection, filter=request.filter or "", order_by=tuple(request.order_by or ()),
            view=check_view(request.view_type), max_results=_or(request.max_results, 1000),
            page_token=request.page_token,
        )  # fmt: skip
    found = [experiment_message(experiment) for experiment in page.experiments]
    return set_fields(experiments=found, next_page_token=page.next_page_token)


def delete(store: Store, request: ExperimentId) -> Wire:
    """Answer experiments/delete."""
    with store.database.write() as connection:
        tracking.delete_experiment(connection, store.clock, request.experiment_id)
    return {}


def restore(store: Store, request: ExperimentId) -> Wire:
    """Answer experiments/restore."""
    with store.database.write() as connection:
        tracking.restore_experiment(connection, store.clock, request.experiment_id)
    return {}


def rename(store: Store, request: RenameExperiment) -> Wire:
    """Answer experiments/update."""
    with store.database.write() as connection:
        tracking.rename_experiment(connection, store.clock, request.experiment_id, request.new_name)
    return {}


def set_tag(store: Store, request: SetExperimentTag) -> Wire:
    """Answer experiments/set-experiment-tag."""
    with store.database.write() as connection:
        tracking.set_experiment_tags(connection, request.experiment_id, {request.key: request.value})
    return {}


def delete_tag(store: Store, request: DeleteExperimentTag) -> Wire:
    """Answer experiments/delete-experiment-tag."""
    with store.database.write() as connection:
        tracking.delete_experiment_tag(connection, request.experiment_id, request.key)
    return {}


def search_datasets(store: Store, request: SearchDatasets) -> Wire:
    """Answer experiments/search-datasets."""
    ids = request.experiment_ids or []
    if not ids:
        raise InvalidInput("SearchDatasets request must specify at least one experiment_id.")
    if len(ids) > MAX_SEARCHED_EXPERIMENTS:
        raise InvalidInput(
            f"SearchDatasets request cannot specify more than {MAX_SEARCHED_EXPERIMENTS} experiment_ids. Received "
            f"{len(ids)} experiment_ids."
        )
    with store.database.read() as connection:
        found = tracking.search_datasets(connection, ids)
    summaries = [
        set_fields(experiment_id=one.experiment_id, name=one.name, digest=one.digest, context=one.context)
        for one in found
    ]
    return set_fields(dataset_summaries=summaries)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


ENDPOINTS = (
    Endpoint(method="POST", path="experiments/create", request=CreateExperiment, handle=create),
    Endpoint(method="GET", path="experiments/get", request=ExperimentId, handle=get),
    Endpoint(method="GET", path="experiments/get-by-name", request=ExperimentName, handle=get_by_name),
    Endpoint(method="GET", path="experiments/search", request=SearchExperiments, handle=search),
    Endpoint(method="POST", path="experiments/search", request=SearchExperiments, handle=search),
    Endpoint(method="POST", path="experiments/delete", request=ExperimentId, handle=delete),
    Endpoint(method="POST", path="experiments/restore", request=ExperimentId, handle=restore),
    Endpoint(method="POST", path="experiments/update", request=RenameExperiment, handle=rename),
    Endpoint(method="POST", path="experiments/set-experiment-tag", request=SetExperimentTag, handle=set_tag),
    Endpoint(method="POST", path="experiments/delete-experiment-tag", request=DeleteExperimentTag, handle=delete_tag),
    Endpoint(method="POST", path="experiments/search-datasets", request=SearchDatasets, handle=search_datasets),
)
