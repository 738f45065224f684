"""MLflow 3's logged-model endpoints."""

from __future__ import annotations

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import logged_model_message
from mainspring.api.mlflow.wire import Int64, KeyValue, Required, Wire, missing_parameter, set_fields, to_tags
from mainspring.core import InvalidInput
from mainspring.lineage import Store

_STATUS_NUMBERS = {"1": "LOGGED_MODEL_PENDING", "2": "LOGGED_MODEL_READY", "3": "LOGGED_MODEL_UPLOAD_FAILED"}


class CreateLoggedModel(msgspec.Struct):
    """Make a logged model."""

    experiment_id: Required
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[KeyValue] | None = None
    tags: list[KeyValue] | None = None


class ModelId(msgspec.Struct):
    """Name a logged model."""

    model_id: Required
    allow_deleted: bool = False


class Finalize(msgspec.Struct):
    """Say that the upload is over."""

    model_id: Required
    status: str | int


class SetTags(msgspec.Struct):
    """Set tags."""

    model_id: Required
    tags: list[KeyValue] | None = None


class DeleteTag(msgspec.Struct):
    """Remove one tag."""

    model_id: Required
    key: Required


class LogParams(msgspec.Struct):
    """Record params."""

    model_id: Required
    params: list[KeyValue] | None = None


class Dataset(msgspec.Struct):
    """A dataset metrics were measured on."""

    dataset_name: str = ""
    dataset_digest: str = ""


class OrderBy(msgspec.Struct):
    """One thing to order by."""

    field_name: str = ""
    ascending: bool | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    def to_order(self) -> tracking.ModelOrder:
        """Return it in our words."""
        dataset = tracking.DatasetName(self.dataset_name or "", self.dataset_digest or "")
        return tracking.ModelOrder(field=self.field_name, ascends=self.ascending is not False, dataset=dataset)


class SearchLoggedModels(msgspec.Struct):
    """Find logged models."""

    experiment_ids: list[str] | None = None
    filter: str | None = None
    datasets: list[Dataset] | None = None
    max_results: Int64 | None = None
    order_by: list[OrderBy] | None = None
    page_token: str | None = None


def create(store: Store, request: CreateLoggedModel) -> Wire:
    """Answer POST logged-models."""
    with store.database.write() as connection:
        model = tracking.create_logged_model(
            connection, store.clock, request.experiment_id, name=request.name or "",
            model_type=request.model_type or "", source_run_id=request.source_run_id or None,
            params=_params(request.params), tags=to_tags(request.tags),
        )  # fmt: skip
    return {"model": logged_model_message(model)}


def get(store: Store, request: ModelId) -> Wire:
    """Answer GET logged-models/{id}."""
    with store.database.read() as connection:
        model = tracking.get_logged_model(connection, request.model_id, allow_deleted=request.allow_deleted)
    return {"model": logged_model_message(model)}


def finalize(store: Store, request: Finalize) -> Wire:
    """Answer PATCH logged-models/{id}."""
    status = _STATUS_NUMBERS.get(str(request.status), str(request.status))
    with store.database.write() as connection:
        model = tracking.finalize_logged_model(connection, store.clock, request.model_id, status)
    return {"model": logged_model_message(model)}


def delete(store: Store, request: ModelId) -> Wire:
    """Answer DELETE logged-models/{id}."""
    with store.database.write() as connection:
        tracking.delete_logged_model(connection, store.clock, request.model_id)
    return {}


def set_tags(store: Store, request: SetTags) -> Wire:
    """Answer PATCH logged-models/{id}/tags."""
    with store.database.write() as connection:
        tracking.set_model_tags(connection, store.clock, request.model_id, to_tags(request.tags))
    return {}


def delete_tag(store: Store, request: DeleteTag) -> Wire:
    """Answer DELETE logged-models/{id}/tags/{key}."""
    with store.database.write() as connection:
        tracking.delete_model_tag(connection, request.model_id, request.key)
    return {}


def log_params(store: Store, request: LogParams) -> Wire:
    """Answer POST logged-models/{id}/params."""
    with store.database.write() as connection:
        tracking.log_model_params(connection, request.model_id, _params(request.params))
    return {}


def search(store: Store, request: SearchLoggedModels) -> Wire:
    """Answer POST logged-models/search."""
    if request.experiment_ids is None:
        raise missing_parameter("experiment_ids")
    if any(not dataset.dataset_name for dataset in request.datasets or ()):
        raise InvalidInput("`dataset_name` in the `datasets` clause must be specified.")
    datasets = [tracking.DatasetName(found.dataset_name, found.dataset_digest) for found in request.datasets or ()]
    with store.database.read() as connection:
        page = tracking.search_logged_models(
            connection, request.experiment_ids, filter=request.filter or "", datasets=datasets,
            order_by=[order.to_order() for order in request.order_by or ()],
            max_results=100 if request.max_results is None else request.max_results, page_token=request.page_token,
        )  # fmt: skip
    return set_fields(
        models=[logged_model_message(model) for model in page.models], next_page_token=page.next_page_token
    )


def _params(params: list[KeyValue] | None) -> list[tracking.Param]:
    return [tracking.Param(param.key, param.value) for param in params or ()]


_ONE = "logged-models/{model_id}"
ENDPOINTS = (
    Endpoint(method="POST", path="logged-models", request=CreateLoggedModel, handle=create),
    Endpoint(method="POST", path="logged-models/search", request=SearchLoggedModels, handle=search),
    Endpoint(method="GET", path=_ONE, request=ModelId, handle=get),
    Endpoint(method="PATCH", path=_ONE, request=Finalize, handle=finalize),
    Endpoint(method="DELETE", path=_ONE, request=ModelId, handle=delete),
    Endpoint(method="PATCH", path=_ONE + "/tags", request=SetTags, handle=set_tags),
    Endpoint(method="DELETE", path=_ONE + "/tags/{key}", request=DeleteTag, handle=delete_tag),
    Endpoint(method="POST", path=_ONE + "/params", request=LogParams, handle=log_params),
)
