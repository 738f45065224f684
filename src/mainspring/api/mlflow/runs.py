"""MLflow's run endpoints: make, change, find, tag."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.wire import Int64, KeyValue, Wire, missing_parameter, set_fields, to_tags
from mainspring.core import Clock, InvalidInput
from mainspring.db import Session, session_of

if TYPE_CHECKING:
    from mainspring.lineage import Store

Work: TypeAlias = Callable[[Session], object]

_STATUS_NUMBERS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


class CreateRun(msgspec.Struct):
    """Start a run; ``run_id`` is our own: a run that began without a server keeps the id it has."""

    run_id: str | None = None
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
            raise missing_parameter("run_id")
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


def create(store: Store, request: CreateRun) -> Work:
    """Answer runs/create."""
    name, tagged = request.run_name, to_tags(request.tags).get(tracking.NAME_TAG)
    if name and tagged and name != tagged and not request.run_id:
        raise InvalidInput(
            f"Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{name[:100]}', mlflow.runName='{tagged[:100]}')."
        )
    return partial(_create, store.clock, request)


def _create(clock: Clock, request: CreateRun, session: Session) -> dict[str, tracking.RunDocument]:
    run = tracking.create_run(
        session, clock, request.experiment_id or tracking.DEFAULT_ID, name=request.run_name or "",
        user=request.user_id or "", start_time=request.start_time, tags=to_tags(request.tags), id=request.run_id or "",
    )  # fmt: skip
    if request.run_id:  # it may have been there, with things logged to it
        return {"run": tracking.run_documents(session, [tracking.find_run(session, run.id).number])[0]}
    return {"run": tracking.document_of(run)}


def get(store: Store, request: RunId) -> bytes:
    """Answer runs/get."""
    with store.database.session() as session:
        key = tracking.find_run(session, request.require(), stage=None)
        return msgspec.json.encode({"run": tracking.run_documents(session, [key.number])[0]})


def update(_store: Store, request: UpdateRun) -> Work:
    """Answer runs/update."""
    return partial(_update, request, request.require())


def _update(request: UpdateRun, run_id: str, session: Session) -> dict[str, tracking.RunInfo]:
    status = None if request.status is None else _STATUS_NUMBERS.get(str(request.status), str(request.status))
    key = tracking.change_run(session, run_id, status=status, end_time=request.end_time, name=request.run_name or "")
    return {"run_info": tracking.run_info(session, key.number)}


def delete(_store: Store, request: RunId) -> Work:
    """Answer runs/delete."""
    return _silent(tracking.delete_run, request.require())


def restore(_store: Store, request: RunId) -> Work:
    """Answer runs/restore."""
    return _silent(tracking.restore_run, request.require())


def search(store: Store, request: SearchRuns) -> bytes:
    """Answer runs/search."""
    from mainspring.api.mlflow.experiments import check_view  # needs SQLAlchemy, as the search does

    with store.database.read() as connection:
        page = tracking.search_numbers(
            connection, request.experiment_ids or [], filter=request.filter or "", order_by=request.order_by or (),
            view=check_view(request.run_view_type),
            max_results=1000 if request.max_results is None else request.max_results, page_token=request.page_token,
        )  # fmt: skip
        runs = tracking.run_documents(session_of(connection), page.numbers)
    return msgspec.json.encode(set_fields(runs=runs, next_page_token=page.next_page_token))


def set_tag(_store: Store, request: SetTag) -> Work:
    """Answer runs/set-tag."""
    return _silent(tracking.set_tags, request.require(), {request.key: request.value})


def delete_tag(_store: Store, request: DeleteTag) -> Work:
    """Answer runs/delete-tag."""
    if not request.key:
        raise missing_parameter("key")
    return _silent(tracking.delete_tag, request.require(), request.key)


def _silent(change: Callable[..., None], *arguments: object) -> Work:
    """Return the work of a change that is answered with an empty object."""

    def work(session: Session) -> Wire:
        change(session, *arguments)
        return {}

    return work


ENDPOINTS = (
    Endpoint(method="POST", path="runs/create", request=CreateRun, write=create),
    Endpoint(method="GET", path="runs/get", request=RunId, render=get),
    Endpoint(method="POST", path="runs/update", request=UpdateRun, write=update),
    Endpoint(method="POST", path="runs/delete", request=RunId, write=delete),
    Endpoint(method="POST", path="runs/restore", request=RunId, write=restore),
    Endpoint(method="POST", path="runs/search", request=SearchRuns, render=search),
    Endpoint(method="POST", path="runs/set-tag", request=SetTag, write=set_tag),
    Endpoint(method="POST", path="runs/delete-tag", request=DeleteTag, write=delete_tag),
)
