"""Vertex AI Pipelines, through Google's client. Importing it costs seconds, so it happens at the first call."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core import Foreign, InvalidInput, MainspringError, NotFound, Refused, Unavailable, to_ms
from mainspring.pipelines.remote.documents import Documents, split_documents, write_documents
from mainspring.pipelines.remote.interface import (
    RemoteArtifact,
    RemoteRun,
    RemoteState,
    RemoteTask,
    Submission,
    Submitted,
    explained,
)

_RUN_STATES: tuple[RemoteState, ...] = (
    "PENDING", "PENDING", "PENDING", "RUNNING", "COMPLETE", "FAILED", "RUNNING", "CANCELED", "RUNNING",
)  # fmt: skip
"""By the number of ``PipelineState``."""
_TASK_STATES: tuple[RemoteState, ...] = (
    "PENDING", "PENDING", "RUNNING", "COMPLETE", "RUNNING", "RUNNING", "CANCELED", "FAILED", "SKIPPED", "SKIPPED",
)  # fmt: skip
"""By the number of ``PipelineTaskDetail.State``; 8 is Vertex's word for a cached result, 9 for not triggered."""
_CACHED = 8


class VertexConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which project of Google Cloud, and where in it."""

    project: str
    root: str
    """``gs://BUCKET/FOLDER`` for what the pipelines leave."""
    location: str = "us-central1"
    service_account: str = ""
    network: str = ""
    endpoint: str = ""
    """Another address of the API."""
    anonymous: bool = False
    """Send no credentials: for an endpoint that asks for none."""


class VertexEngine:
    """Runs pipelines on Vertex AI Pipelines."""

    name = "vertex"

    def __init__(self, config: VertexConfig) -> None:
        if not config.root.startswith("gs://"):
            raise InvalidInput(f"{config.root!r} is not a folder of Cloud Storage.", hint="Write root=gs://BUCKET/…")
        self._config = config

    def submit(self, submission: Submission) -> Submitted:
        """Start a PipelineJob. Vertex takes one document: what is asked of Kubernetes is left out, with a warning."""
        config, documents = self._config, split_documents(submission.ir)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"
            path.write_bytes(write_documents(Documents(pipeline=documents.pipeline)))
            with explained(f"take the pipeline {submission.pipeline!r}", _refusal):
                job = self._platform.PipelineJob(
                    display_name=submission.pipeline,
                    template_path=str(path),
                    job_id=job_id(submission.pipeline, submission.run_id),
                    pipeline_root=config.root,
                    parameter_values=submission.parameters,
                    enable_caching=None if submission.use_cache else False,
                    labels={"mainspring-run": submission.run_id.lower()},
                )
                job.submit(service_account=config.service_account or None, network=config.network or None)
        dropped = tuple(
            f"Vertex AI does not know {setting}; it was left out" for setting in documents.platform_settings
        )
        return Submitted(id=job.resource_name, url=_console(job.resource_name), warnings=dropped)

    def look(self, id: str) -> RemoteRun:
        """Return how a job stands now."""
        with explained(f"show the job {id}", _refusal):
            return read_job(self._platform.PipelineJob.get(id).gca_resource)

    def cancel(self, id: str) -> None:
        """Ask Vertex to cancel the job."""
        with explained(f"cancel the job {id}", _refusal):
            self._platform.PipelineJob.get(id).cancel()

    @cached_property
    def _platform(self) -> Foreign:  # the module
        try:
            from google.auth.credentials import AnonymousCredentials
            from google.cloud import aiplatform
        except ImportError as error:
            raise Unavailable(
                "Submitting to Vertex AI needs google-cloud-aiplatform, which is not installed.",
                hint="Run: pip install 'mainspring[vertex]'",
            ) from error
        _log_to_stderr()
        config = self._config
        with explained("answer", _refusal):
            aiplatform.init(
                project=config.project,
                location=config.location,
                api_endpoint=config.endpoint or None,
                api_transport="rest",
                credentials=AnonymousCredentials() if config.anonymous else None,
            )
        return aiplatform


def _log_to_stderr() -> None:
    """Keep the client's log, which it sends to stdout, apart from our answers."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("google.cloud.aiplatform"):
            for handler in logging.getLogger(name).handlers:
                if isinstance(handler, logging.StreamHandler):
                    handler.setStream(sys.stderr)


def job_id(pipeline: str, run_id: str) -> str:
    """Return the id of a job, as Vertex wants it: ``[a-z][-a-z0-9]{0,127}``."""
    slug = re.sub(r"[^a-z0-9]+", "-", pipeline.lower()).strip("-")[:90]
    return f"{slug if slug[:1].isalpha() else f'p-{slug}'.rstrip('-')}-{run_id.lower()}"


def read_job(job: Foreign) -> RemoteRun:  # PipelineJob
    """Put a job of Vertex's API into our words; the task that stands for the whole pipeline is left out."""
    details = list(job.job_detail.task_details) if job.job_detail else []
    by_id = {detail.task_id: detail for detail in details}
    tasks = tuple(_task(detail, by_id) for detail in details if detail.parent_task_id or len(details) == 1)
    return RemoteRun(state=_state(_RUN_STATES, job.state), error=_message(job.error), tasks=tasks)


def _task(detail: Foreign, by_id: dict[int, Any]) -> RemoteTask:  # PipelineTaskDetail
    names, current = [detail.task_name], by_id.get(detail.parent_task_id)
    while current is not None and current.parent_task_id in by_id and len(names) <= len(by_id):
        names.append(current.task_name)
        current = by_id.get(current.parent_task_id)
    path = "/".join(reversed(names))
    twins = [item for item in by_id.values() if (item.task_name, item.parent_task_id) == _place(detail)]
    return RemoteTask(
        id=str(detail.task_id),
        address=path if len(twins) == 1 else f"{path}[{detail.task_id}]",
        name=detail.task_name,
        state="CACHED" if int(detail.state) == _CACHED else _state(_TASK_STATES, detail.state),
        error=_message(detail.error),
        started_at=_ms(detail.start_time),
        ended_at=_ms(detail.end_time),
        inputs=_artifacts(detail.inputs),
        outputs=_artifacts(detail.outputs),
    )


def _state(states: tuple[RemoteState, ...], number: Foreign) -> RemoteState:  # an enum of protobuf
    """Return a state by its number; one that is newer than this list is neither begun nor ended."""
    return states[int(number)] if 0 <= int(number) < len(states) else "RUNNING"


def _place(detail: Foreign) -> tuple[Any, Any]:  # PipelineTaskDetail
    return (detail.task_name, detail.parent_task_id)


def _artifacts(lists: Foreign) -> dict[str, tuple[RemoteArtifact, ...]]:  # map of ArtifactList
    return {name: tuple(_artifact(name, item) for item in found.artifacts) for name, found in lists.items()}


def _artifact(name: str, artifact: Foreign) -> RemoteArtifact:  # Artifact
    metadata = {key: _plain(value) for key, value in (artifact.metadata or {}).items()}
    return RemoteArtifact(
        id=artifact.name,
        name=artifact.display_name or name,
        type=artifact.schema_title or "system.Artifact",
        uri=artifact.uri,
        metadata=metadata,
    )


def _plain(value: Foreign) -> Foreign:  # a protobuf value
    """Turn protobuf's maps and lists into ours, and its doubles into the ints they were."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool | None):
        return value
    return [_plain(item) for item in value]


def _message(error: Foreign) -> str:  # google.rpc.Status
    return str(error.message or "") if error else ""


def _ms(moment: Foreign) -> int | None:  # a datetime or None
    return None if not moment else to_ms(moment)


def _console(resource: str) -> str:
    parts = resource.split("/")
    base = "https://console.cloud.google.com/vertex-ai/pipelines/locations"
    return f"{base}/{parts[3]}/runs/{parts[5]}?project={parts[1]}" if len(parts) == 6 else ""


def _refusal(deed: str, error: Exception) -> MainspringError:
    """Return in one line what Vertex would not do, given what its client raises."""
    from google.auth.exceptions import GoogleAuthError

    found = getattr(error, "code", None)
    code = int(found) if isinstance(found, int) else 0
    message = f"Vertex AI does not {deed}: {' '.join(str(error).split())[:300]}"
    if code == 404:
        return NotFound(message, hint="Has it been deleted there?")
    if code in (401, 403) or isinstance(error, GoogleAuthError) or "credentials" in str(error).lower():
        return Refused(message, hint="Log in with: gcloud auth application-default login")
    if isinstance(error, ValueError) or 400 <= code < 500:
        return InvalidInput(message)
    return Unavailable(message, hint="Check project, location and network.")
