"""Which function answers which address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mainspring.api.kfp import archiving, artifacts, experiments, pipelines, recurring, runs
from mainspring.api.kfp.wire import Call
from mainspring.lineage import Store


def tell_health(_store: Store, _call: Call) -> dict[str, Any]:
    """Say that there is one user, and that pipelines are kept in the database."""
    return {"multi_user": False, "pipeline_store": "database"}


def allow(_store: Store, _call: Call) -> dict[str, Any]:
    """Say that who came this far may go on: the server has looked at the token already."""
    return {}


HANDLERS: dict[tuple[str, str], Callable[[Store, Call], dict[str, Any]]] = {
    ("GET", "/healthz"): tell_health,
    ("GET", "/auth"): allow,
    ("GET", "/artifacts/{id}"): artifacts.get,
    ("POST", "/experiments"): experiments.create,
    ("GET", "/experiments"): experiments.list_,
    ("POST", "/experiments/{id}:archive"): archiving.archive,
    ("POST", "/experiments/{id}:unarchive"): archiving.unarchive,
    ("GET", "/experiments/{id}"): experiments.get,
    ("DELETE", "/experiments/{id}"): experiments.delete,
    ("POST", "/pipelines/upload"): pipelines.upload,
    ("POST", "/pipelines/upload_version"): pipelines.upload_version,
    ("POST", "/pipelines/create"): pipelines.refuse_address,
    ("POST", "/pipelines"): pipelines.create,
    ("GET", "/pipelines"): pipelines.list_,
    ("GET", "/pipelines/names/{name}"): pipelines.get_by_name,
    ("GET", "/pipelines/{id}"): pipelines.get,
    ("PATCH", "/pipelines/{id}"): pipelines.rename,
    ("DELETE", "/pipelines/{id}"): pipelines.delete,
    ("POST", "/pipelines/{id}/versions"): pipelines.refuse_address,
    ("GET", "/pipelines/{id}/versions"): pipelines.list_versions,
    ("GET", "/pipelines/{id}/versions/{version}"): pipelines.get_version,
    ("PATCH", "/pipelines/{id}/versions/{version}"): pipelines.rename_version,
    ("DELETE", "/pipelines/{id}/versions/{version}"): pipelines.delete_version,
    ("POST", "/runs"): runs.create,
    ("GET", "/runs"): runs.list_,
    ("POST", "/runs/{id}:terminate"): runs.terminate,
    ("POST", "/runs/{id}:retry"): runs.retry,
    ("POST", "/runs/{id}:archive"): runs.archive,
    ("POST", "/runs/{id}:unarchive"): runs.unarchive,
    ("GET", "/runs/{id}"): runs.get,
    ("DELETE", "/runs/{id}"): runs.delete,
    ("POST", "/recurringruns"): recurring.create,
    ("GET", "/recurringruns"): recurring.list_,
    ("POST", "/recurringruns/{id}:enable"): recurring.enable,
    ("POST", "/recurringruns/{id}:disable"): recurring.disable,
    ("GET", "/recurringruns/{id}"): recurring.get,
    ("DELETE", "/recurringruns/{id}"): recurring.delete,
}
