"""MLflow's run endpoints: make, change, find, tag."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.entities import file_message, run_info_message, run_message
from mainspring.api.mlflow.experiments import check_view
from mainspring.api.mlflow.wire import Int64, KeyValue, Wire, set_fields, to_tags
from mainspring.core import InvalidInput
from mainspring.lineage import Store

_STATUS_NUMBERS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


class CreateRun(msgspec.Struct):
    """Start a run."""

    experiment_id: str | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: Int64 | None = None
    tags: list[KeyValue] | None = None


class RunId(msgspec.Struct):
    """Name a run; ``run_uuid`` is the deprecated name."""

    run_id: str | None = None
    run_uuid: str | None = None

    def require(self) -> str:
        """Return the id; raise `InvalidInput` if none was given."""
        id = self.run_id or self.run_uuid
        if not id:
            raise InvalidInput("Missing value for required parameter 'run_id'.")
        return id


class UpdateRun(RunId):
    """Change a run."""

    status: str | int | None = None
    end_time: Int64 | None = None
    run_name: str | None = None


class SetTag(RunId):
    """Set one tag."""

    key: str = ""
    value: str = ""


class DeleteTag(RunId):
    """Remove one tag."""

    key: str = ""


class SearchRuns(msgspec.Struct):
    """Find runs."""

    experiment_ids: list[str] | None = None
    filter: str | None = None
    run_view_type: str | None = None
    max_results: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class ListArtifacts(RunId):
    """List the artifacts of a run."""

    path: str | None = None
    page_token: str | None = None


def create(store: Store, request: CreateRun) -> Wire:
    """Answer runs/create."""
    with store.database.write() as connection:
        run = tracking.create_run(
            connection, store.clock, request.experiment_id or tracking.DEFAULT_ID, name=request.run_name or "",
            user=request.user_id or "", start_time=request.start_time, tags=to_tags(request.tags),
        )  # fmt: skip
    return {"run": run_message(run)}


def get(store: Store, request: RunId) -> Wire:
    """Answer runs/get."""
    with store.database.read() as connection:
        return {"run": run_message(tracking.get_run(connection, request.require()))}


def update(store: Store, request: UpdateRun) -> Wire:
    """Answer runs/update."""
    status = None if request.status is None else _STATUS_NUMBERS.get(str(request.status), str(request.status))
    with store.database.write() as connection:
        run = tracking.update_run(
            connection, request.require(), status=status, end_time=request.end_time, name=request.run_name or ""
        )
    return {"run_info": run_info_message(run)}


def delete(store: Store, request: RunId) -> Wire:
    """Answer runs/delete."""
    with store.database.write() as connection:
        tracking.delete_run(connection, request.require())
    return {}


def restore(store: Store, request: RunId) -> Wire:
    """Answer runs/restore."""
    with store.database.write() as connection:
        tracking.restore_run(connection, request.require())
    return {}


def search(store: Store, request: SearchRuns) -> Wire:
    """Answer runs/search."""
    with store.database.read() as connection:
        page = tracking.search_runs(
            connection, request.experiment_ids or [], filter=request.filter or "", order_by=request.order_by or (),
            view=check_view(request.run_view_type),
            max_results=1000 if request.max_results is None else request.max_results, page_token=request.page_token,
        )  # fmt: skip
    return set_fields(runs=[run_message(run) for run in page.runs], next_page_token=page.next_page_token)


def set_tag(store: Store, request: SetTag) -> Wire:
    """Answer runs/set-tag."""
    with store.database.write() as connection:
        tracking.set_tags(connection, request.require(), {request.key: request.value})
    return {}


def delete_tag(store: Store, request: DeleteTag) -> Wire:
    """Answer runs/delete-tag."""
    with store.database.write() as connection:
        tracking.delete_tag(connection, request.require(), request.key)
    return {}


def list_artifacts(store: Store, request: ListArtifacts) -> Wire:
    """Answer artifacts/list."""
    with store.database.read() as connection:
        root = tracking.get_run(connection, request.require()).artifact_uri
        below = tracking.check_path(request.path) if request.path else ""
        folder = tracking.path_of_uri(f"{root}/{below}")
        files = [file_message(file, below=below) for file in tracking.list_folder(connection, store.blobs, folder)]
    return set_fields(root_uri=root, files=files)


ENDPOINTS = (
    Endpoint(method="POST", path="runs/create", request=CreateRun, handle=create),
    Endpoint(method="GET", path="runs/get", request=RunId, handle=get),
    Endpoint(method="POST", path="runs/update", request=UpdateRun, handle=update),
    Endpoint(method="POST", path="runs/delete", request=RunId, handle=delete),
    Endpoint(method="POST", path="runs/restore", request=RunId, handle=restore),
    Endpoint(method="POST", path="runs/search", request=SearchRuns, handle=search),
    Endpoint(method="POST", path="runs/set-tag", request=SetTag, handle=set_tag),
    Endpoint(method="POST", path="runs/delete-tag", request=DeleteTag, handle=delete_tag),
    Endpoint(method="GET", path="artifacts/list", request=ListArtifacts, handle=list_artifacts),
)
