"""Kubeflow Pipelines, through its own client. Importing kfp costs over a second, so it happens at the first call."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import redirect_stdout
from datetime import datetime
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core import Foreign, InvalidInput, MainspringError, NotFound, Refused, Unavailable, to_ms
from mainspring.pipelines.remote.address import Address
from mainspring.pipelines.remote.documents import split_documents, without_cache, write_documents
from mainspring.pipelines.remote.interface import (
    RemoteArtifact,
    RemoteRun,
    RemoteState,
    RemoteTask,
    Submission,
    Submitted,
    explained,
)

_SECONDS = 60.0
"""So long the API may take for one answer."""
_LOGIN = "Pass a fresh token: --remote token=…, or remotes: kubeflow: {token: …} in mainspring.yaml."
_STATES: dict[str, RemoteState] = {
    "PENDING": "PENDING",
    "RUNNING": "RUNNING",
    "PAUSED": "RUNNING",
    "CANCELING": "RUNNING",
    "SUCCEEDED": "COMPLETE",
    "SKIPPED": "SKIPPED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELED",
}


class KubeflowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Kubeflow Pipelines is."""

    host: str
    """Address of its API, such as ``http://localhost:8080``."""
    namespace: str = ""
    """Of a multi-user installation."""
    experiment: str = "Default"
    service_account: str = ""
    pipeline_root: str = ""
    token: str = ""


class KubeflowEngine:
    """Runs pipelines on Kubeflow Pipelines 2."""

    name = "kubeflow"

    def __init__(self, config: KubeflowConfig) -> None:
        if not config.host.startswith(("http://", "https://")):
            raise InvalidInput(f"{config.host!r} is not the address of Kubeflow Pipelines.", hint="Write host=http://…")
        self._config = config
        self._address = Address(host=config.host, token=config.token, login=_LOGIN)
        self._artifacts: dict[str, RemoteArtifact] = {}
        self._knows_artifacts = True

    def submit(self, submission: Submission) -> Submitted:
        """Start a run of the compiled file."""
        config = self._config
        documents = split_documents(submission.ir)
        ir = submission.ir if submission.use_cache else write_documents(without_cache(documents))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"
            path.write_bytes(ir)
            with explained(f"take the pipeline {submission.pipeline!r}", _refusal), redirect_stdout(StringIO()):
                created = self._client.create_run_from_pipeline_package(
                    str(path),
                    arguments=submission.parameters,
                    run_name=f"{submission.pipeline} {submission.run_id}",
                    experiment_name=config.experiment,
                    namespace=config.namespace or None,
                    pipeline_root=config.pipeline_root or None,
                    service_account=config.service_account or None,
                )
        return Submitted(id=created.run_id, url=f"{config.host.rstrip('/')}/#/runs/details/{created.run_id}")

    def look(self, id: str) -> RemoteRun:
        """Return how a run stands now."""
        with explained(f"show the run {id}", _refusal):
            seen = read_run(self._client.runs.run_service_get_run(run_id=id, _request_timeout=_SECONDS))
        return msgspec.structs.replace(seen, tasks=tuple(self._with_artifacts(task) for task in seen.tasks))

    def cancel(self, id: str) -> None:
        """Ask Kubeflow to terminate the run."""
        with explained(f"terminate the run {id}", _refusal):
            self._client.runs.run_service_terminate_run(run_id=id, _request_timeout=_SECONDS)

    def _with_artifacts(self, task: RemoteTask) -> RemoteTask:
        """Return a task with what there is to say of its artifacts: a run names them by their ids only."""
        inputs, outputs = (
            {name: tuple(self._artifact(item) for item in found) for name, found in named.items()}
            for named in (task.inputs, task.outputs)
        )
        return msgspec.structs.replace(task, inputs=inputs, outputs=outputs)

    def _artifact(self, named: RemoteArtifact) -> RemoteArtifact:
        """Look an artifact up once; a Kubeflow that keeps them elsewhere (before 2.18) is asked no more."""
        if named.id not in self._artifacts and self._knows_artifacts:
            try:
                self._artifacts[named.id] = read_artifact(named, self._address.get(f"artifacts/{named.id}"))
            except (NotFound, InvalidInput):
                self._knows_artifacts = False
        return self._artifacts.get(named.id, named)

    @cached_property
    def _client(self) -> Foreign:  # kfp.Client
        warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
        try:
            import kfp
        except ImportError as error:
            raise Unavailable(
                "Submitting to Kubeflow needs kfp, which is not installed.",
                hint="Run: pip install 'mainspring[pipelines]'",
            ) from error
        self._address.get("healthz")  # the client would try five times, with a traceback each, and keep the reason
        config = self._config
        options = {"namespace": config.namespace} if config.namespace else {}
        with explained("answer", _refusal):
            return kfp.Client(host=config.host, existing_token=config.token or None, **options)


def read_run(run: Foreign) -> RemoteRun:  # V2beta1Run
    """Put a run of kfp's API into our words."""
    details = (run.run_details.task_details if run.run_details else None) or []
    state = _STATES.get(run.state or "PENDING", "RUNNING")
    tasks = tuple(_task(detail, {item.task_id: item for item in details}) for detail in details)
    return RemoteRun(state="COMPLETE" if state == "SKIPPED" else state, error=_message(run.error), tasks=tasks)


def read_artifact(named: RemoteArtifact, document: dict[str, Any]) -> RemoteArtifact:
    """Put an artifact of kfp's API into our words; the number of a metric is metadata under its name."""
    kind = str(document.get("type") or "Artifact")
    metadata = dict(document.get("metadata") or {})
    if document.get("number_value") is not None:
        metadata[str(document.get("name") or named.name)] = document["number_value"]
    return RemoteArtifact(
        id=named.id,
        name=str(document.get("name") or named.name),
        type=kind if "." in kind else f"system.{kind}{'s' if kind.endswith('Metric') else ''}",
        uri=str(document.get("uri") or ""),
        metadata=metadata,
    )


def _task(detail: Foreign, by_id: dict[str, Any]) -> RemoteTask:  # V2beta1PipelineTaskDetail
    return RemoteTask(
        id=detail.task_id,
        address=_address(detail, by_id),
        name=detail.display_name or detail.task_id,
        state=_task_state(detail),
        error=_message(detail.error),
        started_at=_ms(detail.start_time),
        ended_at=_ms(detail.end_time),
        inputs=_artifacts(detail.inputs),
        outputs=_artifacts(detail.outputs),
    )


def _task_state(detail: Foreign) -> RemoteState:  # V2beta1PipelineTaskDetail
    """Return the state of a task; one that is skipped with its inputs or outputs had its result from the cache."""
    state = _STATES.get(detail.state or "PENDING", "RUNNING")
    return "CACHED" if state == "SKIPPED" and (detail.inputs or detail.outputs) else state


def _address(detail: Foreign, by_id: dict[str, Any]) -> str:  # V2beta1PipelineTaskDetail
    """Return the path of names from the root; Kubeflow's names repeat in loops, so the id tells those apart."""
    names: list[str] = []
    seen: set[str] = set()
    current = detail
    while current is not None and current.task_id not in seen:
        seen.add(current.task_id)
        names.append(current.display_name or current.task_id)
        current = by_id.get(current.parent_task_id or "")
    path = "/".join(reversed(names))
    twins = [item for item in by_id.values() if (item.display_name, item.parent_task_id) == _place(detail)]
    return path if len(twins) == 1 else f"{path}[{detail.task_id}]"


def _place(detail: Foreign) -> tuple[Any, Any]:  # V2beta1PipelineTaskDetail
    return (detail.display_name, detail.parent_task_id)


def _artifacts(lists: Foreign) -> dict[str, tuple[RemoteArtifact, ...]]:  # dict of V2beta1ArtifactList
    """Return the artifacts by name; Kubeflow's API tells their ids only."""
    return {
        name: tuple(RemoteArtifact(id=str(id), name=name) for id in found.artifact_ids or ())
        for name, found in (lists or {}).items()
    }


def _message(error: Foreign) -> str:  # GoogleRpcStatus
    return str(error.message or "") if error is not None else ""


def _ms(moment: datetime | None) -> int | None:
    """Return a time; Kubeflow writes the year 1 (or 1970) for one that has not come."""
    return to_ms(moment) if moment is not None and moment.year > 1970 else None


def _refusal(deed: str, error: Exception) -> MainspringError:
    """Return in one line what Kubeflow would not do, given what its client raises."""
    from google.protobuf.json_format import ParseError

    status = getattr(error, "status", None)
    message = f"Kubeflow does not {deed}: {_reason(error)}"
    if status in (401, 403):
        return Refused(message, hint=_LOGIN)
    if status == 404:
        return NotFound(message, hint="Has it been deleted there?")
    if (status is not None and 400 <= status < 500) or isinstance(error, ValueError | ParseError):
        return InvalidInput(message)
    return Unavailable(message, hint="Check the host, and whether Kubeflow runs.")


def _reason(error: Exception) -> str:
    """Return what an error of the client says: the message in the answer's body, or its own first words."""
    body = getattr(error, "body", None)
    try:
        document = msgspec.json.decode(body) if body else None
    except msgspec.DecodeError:
        document = None
    found = document.get("message") or document.get("error") if isinstance(document, dict) else None
    return " ".join(str(found or body or getattr(error, "reason", None) or error).split())[:300]
