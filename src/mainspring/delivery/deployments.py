"""What answers at an endpoint: planned as a value, kept as a row per revision, handed over as a file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mainspring.blobs import LocalBlobs
from mainspring.core import Clock, Conflict, InvalidInput, NotFound
from mainspring.db import Database
from mainspring.db.tables.delivery import deployment as table
from mainspring.lineage import record_event
from mainspring.registry import ModelVersion, materialise
from mainspring.serving import Deployment, ModelReference, Variant, check_deployment, read_deployment, write_deployment

FILE_NAME = "deployment.json"
CHAMPION, CANARY, BASELINE = "champion", "canary", "baseline"


class DeploymentRevision(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an endpoint's history: what was deployed, by whom, why."""

    endpoint: str
    revision: int
    document: Deployment
    actor: str
    reason: str
    cause: str | None
    event: str
    created_at: int


def plan_deployment(
    endpoint: str,
    champion: ModelReference,
    *,
    canary: ModelReference | None = None,
    baseline: ModelReference | None = None,
    canary_percent: int = 20,
    revision: int = 1,
) -> Deployment:
    """Lay out an endpoint: the canary takes its percentage, everybody mirrors what they do not answer.

    The baseline answers nobody and shadows everything.
    """
    if canary is not None and not 0 < canary_percent < 100:
        raise InvalidInput(f"A canary cannot take {canary_percent} % of the requests.", hint="Use 1 to 99.")
    share = canary_percent if canary is not None else 0
    planned = ((CHAMPION, 100 - share, champion), (CANARY, share, canary), (BASELINE, 0, baseline))
    variants = [
        Variant(name=name, weight=weight, mirror=True, model=model)
        for name, weight, model in planned
        if model is not None
    ]
    return check_deployment(Deployment(endpoint=endpoint, revision=revision, variants=variants))


def deploy(
    database: Database,
    blobs: LocalBlobs,
    clock: Clock,
    *,
    endpoint: str,
    endpoint_folder: Path,
    models_folder: Path,
    champion: ModelVersion,
    canary: ModelVersion | None = None,
    baseline: ModelVersion | None = None,
    canary_percent: int = 20,
    actor: str,
    reason: str,
    cause: str | None = None,
) -> DeploymentRevision:
    """Materialise the models, keep the next revision, record deployment.written, then write the endpoint's file.

    Doing it again with the same models and shares adds no revision; it only makes sure that the file is there.
    """
    planned = plan_deployment(
        endpoint,
        _reference(blobs, champion, models_folder),
        canary=_reference(blobs, canary, models_folder) if canary else None,
        baseline=_reference(blobs, baseline, models_folder) if baseline else None,
        canary_percent=canary_percent,
    )
    with database.write() as connection:
        kept = latest_deployment(connection, endpoint)
        if kept is None or kept.document.variants != planned.variants:
            document = msgspec.structs.replace(planned, revision=kept.revision + 1 if kept else 1)
            kept = save_deployment(connection, clock, document, actor=actor, reason=reason, cause=cause)
    restore_file(endpoint_folder, kept.document)
    return kept


def save_deployment(
    connection: sa.Connection,
    clock: Clock,
    document: Deployment,
    *,
    actor: str,
    reason: str,
    cause: str | None = None,
) -> DeploymentRevision:
    """Keep a revision and record deployment.written; raise `Conflict` if the revision is taken."""
    shares = {variant.name: f"{variant.model.version} ({variant.weight} %)" for variant in document.variants}
    event = record_event(
        connection,
        clock,
        "deployment.written",
        source="delivery",
        subject=document.endpoint,
        cause=cause,
        data={"revision": document.revision, "variants": shares, "actor": actor, "reason": reason},
    )
    kept = DeploymentRevision(
        endpoint=document.endpoint,
        revision=document.revision,
        document=document,
        actor=actor,
        reason=reason,
        cause=cause,
        event=event,
        created_at=clock.now_ms(),
    )
    try:
        connection.execute(sa.insert(table).values(msgspec.to_builtins(kept)))
    except IntegrityError as error:
        raise Conflict(
            f"Revision {document.revision} of endpoint {document.endpoint} exists.", hint="Deploy again."
        ) from error
    return kept


def restore_file(endpoint_folder: Path, document: Deployment) -> bool:
    """Write the deployment file unless it says this already; return whether it was written.

    The row is the truth and the file follows it, so this also repairs what a crash between the two left behind.
    """
    path = endpoint_folder / FILE_NAME
    try:
        if read_deployment(path) == document:
            return False
    except (NotFound, InvalidInput):
        pass  # missing or broken: written anew below
    write_deployment(path, document)
    return True


def latest_deployment(connection: sa.Connection, endpoint: str) -> DeploymentRevision | None:
    """Return what is deployed at an endpoint, or None."""
    return next(iter(list_deployments(connection, endpoint, limit=1)), None)


def list_deployments(connection: sa.Connection, endpoint: str, *, limit: int = 100) -> list[DeploymentRevision]:
    """Return an endpoint's revisions, newest first."""
    query = sa.select(table).where(table.c.endpoint == endpoint).order_by(table.c.revision.desc()).limit(limit)
    return [_read(row) for row in connection.execute(query).mappings()]


def _read(row: sa.RowMapping) -> DeploymentRevision:
    return DeploymentRevision(**{**row, "document": msgspec.convert(row["document"], Deployment)})


def _reference(blobs: LocalBlobs, version: ModelVersion, models_folder: Path) -> ModelReference:
    folder = materialise(blobs, version.digest, models_folder)
    return ModelReference(
        name=version.name, version=version.version, digest=version.digest, folder=str(folder.resolve())
    )
