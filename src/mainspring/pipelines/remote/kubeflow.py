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

from mainspring.core import InvalidInput, MainspringError, NotFound, Unavailable, to_ms
from mainspring.pipelines.remote.interface import (
    RemoteArtifact,
    RemoteRun,
    RemoteState,
    RemoteTask,
    Submission,
    Submitted,
)

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

    def submit(self, submission: Submission) -> Submitted:
        """Start a run of the compiled file."""
        config = self._config
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"
            path.write_bytes(submission.ir)
            with _explained(f"take the pipeline {submission.pipeline!r}"), redirect_stdout(StringIO()):
                created = self._client.create_run_from_pipeline_package(
                    str(path),
                    arguments=submission.parameters,
                    run_name=f"{submission.pipeline} {submission.run_id}",
                    experiment_name=config.experiment,
                    namespace=config.namespace or None,
                    pipeline_root=config.pipeline_root or None,
                    enable_caching=None if submission.use_cache else False,
                    service_account=config.service_account or None,
                )
        return Submitted(id=created.run_id, url=f"{config.host.rstrip('/')}/#/runs/details/{created.run_id}")

    def look(self, id: str) -> RemoteRun:
        """Return how a run stands now."""
        with _explained(f"show the run {id}"):
            return read_run(self._client.get_run(id))

    def cancel(self, id: str) -> None:
        """Ask Kubeflow to terminate the run."""
        with _explained(f"terminate the run {id}"):
            self._client.terminate_run(id)

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - kfp.Client
        warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
        try:
            import kfp
        except ImportError as error:
            raise Unavailable(
                "Submitting to Kubeflow needs kfp, which is not installed.",
                hint="Run: pip install 'mainspring[pipelines]'",
            ) from error
        config = self._config
        options = {"namespace": config.namespace} if config.namespace else {}
        with _explained("answer"):
            return kfp.Client(host=config.host, existing_token=config.token or None, **options)


def read_run(run: Any) -> RemoteRun:  # noqa: ANN401 - V2beta1Run
    """Put a run of kfp's API into our words."""
    details = (run.run_details.task_details if run.run_details else None) or []
    state = _STATES.get(run.state or "PENDING", "RUNNING")
    tasks = tuple(_task(detail, {item.task_id: item for item in details}) for detail in details)
    return RemoteRun(state="COMPLETE" if state == "SKIPPED" else state, error=_message(run.error), tasks=tasks)


def _task(detail: Any, by_id: dict[str, Any]) -> RemoteTask:  # noqa: ANN401 - V2beta1PipelineTaskDetail
    return RemoteTask(
        id=detail.task_id,
        address=_address(detail, by_id),
        name=detail.display_name or detail.task_id,
        state=_STATES.get(detail.state or "PENDING", "RUNNING"),
        error=_message(detail.error),
        started_at=_ms(detail.start_time),
        ended_at=_ms(detail.end_time),
        inputs=_artifacts(detail.inputs),
        outputs=_artifacts(detail.outputs),
    )


def _address(detail: Any, by_id: dict[str, Any]) -> str:  # noqa: ANN401 - V2beta1PipelineTaskDetail
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


def _place(detail: Any) -> tuple[Any, Any]:  # noqa: ANN401 - V2beta1PipelineTaskDetail
    return (detail.display_name, detail.parent_task_id)


def _artifacts(lists: Any) -> dict[str, tuple[RemoteArtifact, ...]]:  # noqa: ANN401 - dict of V2beta1ArtifactList
    """Return the artifacts by name; Kubeflow's API tells their ids only."""
    return {
        name: tuple(RemoteArtifact(id=str(id), name=name) for id in found.artifact_ids or ())
        for name, found in (lists or {}).items()
    }


def _message(error: Any) -> str:  # noqa: ANN401 - GoogleRpcStatus
    return str(error.message or "") if error is not None else ""


def _ms(moment: datetime | None) -> int | None:
    """Return a time; Kubeflow writes the year 1 (or 1970) for one that has not come."""
    return to_ms(moment) if moment is not None and moment.year > 1970 else None


class _explained:  # noqa: N801 - reads as a clause
    """Turns what the client raises into one line that says what Kubeflow would not do."""

    def __init__(self, deed: str) -> None:
        self._deed = deed

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, MainspringError) or not isinstance(error, Exception):
            return
        from google.protobuf.json_format import ParseError

        status = getattr(error, "status", None)
        reason = " ".join(str(getattr(error, "body", None) or error).split())[:300]
        if status == 404:
            raise NotFound(f"Kubeflow does not {self._deed}: {reason}") from error
        if (status is not None and 400 <= status < 500) or isinstance(error, ValueError | ParseError):
            raise InvalidInput(f"Kubeflow does not {self._deed}: {reason}") from error
        raise Unavailable(f"Kubeflow does not {self._deed}: {reason}", hint="Check the host.") from error
