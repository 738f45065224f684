"""Registered models: what is in production, since when, who allowed it, and what was before."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import to
from mainspring.core import NotFound
from mainspring.lineage import Artifact, Execution, Store, edges_of, executions_of, find_artifacts
from mainspring.pipelines import PipelineRun, get_run
from mainspring.registry import (
    AliasMove,
    ModelVersion,
    alias_history,
    get_model,
    get_version,
    list_models,
    list_versions,
)
from mainspring.tracking import Run
from mainspring.tracking import get_run as get_tracking_run

CHAMPION = "champion"
HOLDOUT, VERDICT = "holdout_log_loss", "verdict"
"""Tags the register step writes on a version."""


class Production(msgspec.Struct, frozen=True, kw_only=True):
    """The champion of a model and how it got there."""

    model: str
    version: str
    href: str
    since: int | None
    actor: str
    reason: str
    before: str
    before_href: str


class VersionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model version with what its tags say."""

    version: ModelVersion
    href: str
    holdout: str
    verdict: str


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model, how many versions it has, and its champion."""

    name: str
    href: str
    versions: int
    newest: ModelVersion | None
    production: Production | None


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """All registered models."""

    head: Head
    rows: list[ModelRow]


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """One registered model: its versions and the moves of its aliases, newest first."""

    head: Head
    name: str
    production: Production | None
    versions: list[VersionRow]
    moves: list[AliasMove]


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that went into the training, and the input it was."""

    path: str
    artifact: Artifact


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """One model version and its parents: data, code, parameters, runs, and who allowed it."""

    head: Head
    row: VersionRow
    moves: list[AliasMove]
    training: Run | None
    pipeline_run: PipelineRun | None
    parents: list[Parent]


def show_models(store: Store) -> Models:
    """Show every registered model and what of it is in production."""
    with store.database.read() as connection:
        rows = [_model_row(connection, model.name) for model in list_models(connection)]
    head = head_of(store.clock, "Models", "models", command="mainspring models",
                   python="mlflow.MlflowClient().search_registered_models()")  # fmt: skip
    return Models(head=head, rows=rows)


def show_model(store: Store, name: str) -> ModelPage:
    """Show one registered model; raise `NotFound`."""
    with store.database.read() as connection:
        get_model(connection, name)
        versions = list_versions(connection, name)
        moves = alias_history(connection, name)
        production = production_of(connection, name)
    head = head_of(store.clock, f"Model {name}", "models", command="mainspring models", live=True,
                   python=f"mlflow.MlflowClient().get_model_version_by_alias({name!r}, {CHAMPION!r})")  # fmt: skip
    return ModelPage(
        head=head,
        name=name,
        production=production,
        versions=[version_row(version) for version in versions],
        moves=moves,
    )


def show_version(store: Store, name: str, version: str) -> VersionPage:
    """Show one model version and everything it was made of; raise `NotFound`."""
    with store.database.read() as connection:
        found = get_version(connection, name, version)
        moves = [move for move in alias_history(connection, name) if move.to_version == version]
        parents = _parents_of(connection, found)
        training = _training_run(connection, found.run_id)
        pipeline_run = _pipeline_run(connection, found.pipeline_run_id)
    head = head_of(store.clock, f"{name} version {version}", "models",
                   command=f"curl -s {store.settings.server_url}{to('models', name, version)}.json",
                   python=f"mlflow.pyfunc.load_model('models:/{name}/{version}')")  # fmt: skip
    return VersionPage(
        head=head, row=version_row(found), moves=moves, training=training, pipeline_run=pipeline_run, parents=parents
    )


def production_of(connection: sa.Connection, model: str) -> Production | None:
    """Return the champion of a model and how it got there, or None."""
    last = next(iter(alias_history(connection, model, alias=CHAMPION)), None)
    if last is None or last.to_version is None:
        return None
    before = last.from_version or ""
    return Production(
        model=model,
        version=last.to_version,
        href=to("models", model, last.to_version),
        since=last.moved_at,
        actor=last.actor,
        reason=last.reason,
        before=before,
        before_href=to("models", model, before) if before else "",
    )


def version_row(version: ModelVersion) -> VersionRow:
    """Add to a version what its tags say."""
    return VersionRow(
        version=version,
        href=to("models", version.name, version.version),
        holdout=version.tags.get(HOLDOUT, ""),
        verdict=version.tags.get(VERDICT, ""),
    )


def _model_row(connection: sa.Connection, name: str) -> ModelRow:
    versions = list_versions(connection, name)
    return ModelRow(
        name=name,
        href=to("models", name),
        versions=len(versions),
        newest=versions[0] if versions else None,
        production=production_of(connection, name),
    )


def _parents_of(connection: sa.Connection, version: ModelVersion) -> list[Parent]:
    """Return what the executions that made these bytes used, without going further back."""
    made_by: dict[str, Execution] = {}
    for artifact in find_artifacts(connection, digest=version.digest):
        made_by |= {execution.id: execution for execution in executions_of(connection, artifact.id, "OUTPUT")}
    edges = [edge for execution in made_by for edge in edges_of(connection, execution) if edge.kind == "INPUT"]
    return list({edge.artifact.id: Parent(path=edge.path, artifact=edge.artifact) for edge in edges}.values())


def _training_run(connection: sa.Connection, run_id: str | None) -> Run | None:
    try:
        return get_tracking_run(connection, run_id) if run_id else None
    except NotFound:
        return None


def _pipeline_run(connection: sa.Connection, run_id: str) -> PipelineRun | None:
    try:
        return get_run(connection, run_id) if run_id else None
    except NotFound:
        return None
