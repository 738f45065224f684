"""From one logged prediction back to everything behind it: version, run, tasks, data, code, parameters.

Every digest met on the way is hashed again from the stored bytes, so the chain is not only told but checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from mainspring.blobs import digest_of_file, read_tree
from mainspring.core import Corrupt, InvalidInput, NotFound, to_iso
from mainspring.datasets import read_manifest
from mainspring.lineage import Artifact, Store, edges_of, executions_of, find_artifacts, get_event, get_execution
from mainspring.pipelines import PipelineRun, TaskRun, get_run, list_tasks
from mainspring.registry import PIPELINE_RUN_TAG, ModelVersion, alias_history, get_version
from mainspring.serving import PredictionRecord, find_records
from mainspring.tracking import get_run as get_tracking_run


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing behind a prediction; ``verified`` says whether its bytes match its digest, None if it has none."""

    label: str
    value: str
    detail: str = ""
    verified: bool | None = None
    children: list[Finding] = []

    def walk(self) -> Iterator[Finding]:
        """Yield this finding and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def explain_prediction(store: Store, prediction_id: str) -> Finding:
    """Return the chain behind a prediction ``REQUEST:ROW`` (or a whole request); raise `NotFound`."""
    request_id, _, row = prediction_id.partition(":")
    record = find_answer(store, request_id)
    index = _row_index(row, record)
    with store.database.read() as connection:
        version = get_version(connection, record.model, record.version)
    return Finding(
        label="prediction",
        value=prediction_id,
        detail=_say_answer(record, index),
        children=[
            Finding(label="inputs", value=_say_inputs(record, index)),
            Finding(
                label="endpoint",
                value=f"{record.endpoint} revision {record.revision}",
                detail=f"as {record.variant}, in {record.latency_ms:.1f} ms",
            ),
            explain_version(store, version, served_digest=record.digest),
        ],
    )


def find_answer(store: Store, request_id: str) -> PredictionRecord:
    """Return the logged answer to a request, at whichever endpoint gave it."""
    for folder in sorted((store.settings.home / "endpoints").glob("*/predictions")):
        for record in find_records(folder, request_id):
            if not record.shadow:
                return record
    raise NotFound(
        f"No endpoint of this project has logged a request {request_id!r}.",
        hint="The id is in the x-request-id header of the answer.",
    )


def explain_version(store: Store, version: ModelVersion, *, served_digest: str) -> Finding:
    """Return what a model version is made of and where it came from."""
    run_id = version.tags.get(PIPELINE_RUN_TAG) or version.pipeline_run_id
    children = [_explain_approval(store, version), _explain_tracking(store, version)]
    if run_id:
        children.append(_explain_pipeline_run(store, run_id))
    return Finding(
        label="model version",
        value=f"{version.name} version {version.version}",
        detail=version.digest,
        verified=version.digest == served_digest and _holds(partial(hash_again, store), version.digest),
        children=children,
    )


def _explain_approval(store: Store, version: ModelVersion) -> Finding:
    with store.database.read() as connection:
        moves = [move for move in alias_history(connection, version.name) if move.to_version == version.version]
    said = [f"@{move.alias} on {to_iso(move.moved_at)} by {move.actor}: {move.reason}" for move in moves]
    return Finding(label="approved", value="; ".join(said) or "never given an alias")


def _explain_tracking(store: Store, version: ModelVersion) -> Finding:
    if not version.run_id:
        return Finding(label="tracking run", value="none: the model was registered from files")
    with store.database.read() as connection:
        run = get_tracking_run(connection, version.run_id)
    parameters = ", ".join(f"{param.key}={param.value}" for param in run.params)
    metrics = ", ".join(f"{metric.key}={metric.value:.4f}" for metric in run.metrics)
    return Finding(
        label="tracking run",
        value=version.run_id,
        children=[Finding(label="params", value=parameters), Finding(label="metrics", value=metrics)],
    )


def _explain_pipeline_run(store: Store, run_id: str) -> Finding:
    with store.database.read() as connection:
        run = get_run(connection, run_id)
        tasks = list_tasks(connection, run_id)
        event = get_event(connection, run.cause) if run.cause else None
    cause = f"{event.type}: {event.data.get('reason', '')}" if event else "started by hand"
    return Finding(
        label="pipeline run",
        value=f"{run.id} ({run.pipeline})",
        detail=f"{run.state} by {run.actor}, {to_iso(run.started_at or run.created_at)}",
        children=[
            Finding(label="because of", value=cause),
            Finding(label="arguments", value=", ".join(f"{key}={value}" for key, value in run.parameters.items())),
            _explain_code(store, run),
            *_explain_environment(store, run),
            *(_explain_task(store, task) for task in tasks if task.execution_id),
        ],
    )


def _explain_code(store: Store, run: PipelineRun) -> Finding:
    commit = str(run.code.get("git_commit", "not in a git repository"))
    dirty = " with uncommitted changes" if run.code.get("git_dirty") else ""
    digest = str(run.code.get("digest", ""))
    children = [
        Finding(label="file", value=name, detail=file_digest, verified=_holds(store.blobs.path, file_digest))
        for name, file_digest in dict(run.code.get("files", {})).items()
    ]
    children.append(
        Finding(
            label="compiled pipeline", value=run.name, detail=run.ir_digest,
            verified=_holds(store.blobs.path, run.ir_digest),
        )
    )  # fmt: skip
    return Finding(
        label="code",
        value=commit + dirty,
        detail=digest,
        verified=_holds(store.blobs.path, digest) if digest else None,
        children=children,
    )


def _explain_environment(store: Store, run: PipelineRun) -> list[Finding]:
    digest = str(run.code.get("environment", ""))
    if not digest:
        return []
    verified = _holds(store.blobs.path, digest)
    packages = store.blobs.read(digest).decode().splitlines() if verified else []
    value = f"{packages[0]}, {len(packages) - 1} packages" if packages else "not readable"
    return [Finding(label="environment", value=value, detail=digest, verified=verified)]


def _explain_task(store: Store, task: TaskRun) -> Finding:
    with store.database.read() as connection:
        execution = get_execution(connection, str(task.execution_id))
        edges = edges_of(connection, execution.id)
    children = []
    for edge in edges:
        artifact = edge.artifact
        children.append(
            Finding(
                label="used" if edge.kind == "INPUT" else "made",
                value=f"{edge.path} ({artifact.type} {artifact.name})",
                detail=artifact.digest or "",
                verified=_holds(partial(hash_again, store), artifact.digest) if artifact.digest else None,
                children=_explain_snapshot(store, artifact.digest) if edge.kind == "OUTPUT" else [],
            )
        )
    took = "" if task.took_ms is None else f", {task.took_ms / 1000:.1f} s"
    detail = f"{execution.state} by {execution.actor}, {to_iso(execution.started_at)}{took}"
    return Finding(label="task", value=task.name, detail=detail, children=children)


def _explain_snapshot(store: Store, digest: str | None) -> list[Finding]:
    """Follow a dataset snapshot to its parts and to the files they arrived in."""
    with store.database.read() as connection:
        known = find_artifacts(connection, digest=digest, type="Dataset") if digest else []
        makers = [execution for artifact in known for execution in executions_of(connection, artifact.id, "OUTPUT")]
        files = [
            edge.artifact
            for maker in makers
            if maker.type == "ingest"
            for edge in edges_of(connection, maker.id)
            if edge.kind == "INPUT"
        ]
    if not known or digest is None:
        return []
    manifest = read_manifest(store.blobs, digest)
    parts = [
        Finding(
            label="part", value=f"{part.rows:,} rows", detail=part.digest,
            verified=_holds(store.blobs.path, part.digest),
        )
        for part in manifest.parts
    ]  # fmt: skip
    arrived = [
        Finding(label="newest file", value=file.name, detail=file.digest or "", verified=_is_unchanged(file))
        for file in files
    ]
    return [*parts, *arrived]


def _is_unchanged(file: Artifact) -> bool | None:
    """Hash a file that arrived again; None if it has been taken away since: its rows are in the store."""
    path = Path(url2pathname(urlsplit(file.uri).path))
    return digest_of_file(path) == file.digest if path.is_file() else None


def hash_again(store: Store, digest: str) -> None:
    """Hash a blob, and if it is the manifest of a folder, every file of it; raise `Corrupt`."""
    store.blobs.path(digest)
    try:
        files = read_tree(store.blobs, digest)
    except msgspec.MsgspecError:
        return
    for file in files:
        store.blobs.path(file.digest)


def _holds(check: Callable[[str], object], digest: str) -> bool:
    try:
        check(digest)
    except (Corrupt, NotFound):
        return False
    return True


def _row_index(row: str, record: PredictionRecord) -> int | None:
    if not row:
        return None
    if not (row.isascii() and row.isdigit()) or int(row) >= record.rows:
        raise InvalidInput(f"Request {record.id} has {record.rows} rows, not a row {row!r}.", hint="Rows start at 0.")
    return int(row)


def _say_answer(record: PredictionRecord, index: int | None) -> str:
    when = f"on {to_iso(record.received_at)}, status {record.status}"
    if record.status != 200 or record.outputs is None:
        return f"refused {when}: {'; '.join(record.validation_errors)}"
    return f"{record.rows} rows {when}" if index is None else f"answered {record.outputs[index]} {when}"


def _say_inputs(record: PredictionRecord, index: int | None) -> str:
    if not record.inputs:
        return "not logged"
    if index is None:
        return f"{len(record.inputs)} columns: {', '.join(record.inputs)}"
    return ", ".join(f"{name}={values[index]}" for name, values in record.inputs.items() if index < len(values))
