"""Engines elsewhere: what we send them and what they say of a run, in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import msgspec

from mainspring.core import MainspringError

RemoteState = Literal["PENDING", "RUNNING", "COMPLETE", "FAILED", "CANCELED", "SKIPPED", "CACHED"]
ENDED = ("COMPLETE", "FAILED", "CANCELED")


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled pipeline to run elsewhere."""

    ir: bytes
    """The compiled file as it is, with the platform's document if it has one."""
    pipeline: str
    """Name of the pipeline."""
    run_id: str
    """Our id of the run; goes into its name there, so that one is found from the other."""
    parameters: dict[str, Any] = {}
    use_cache: bool = True
    """False switches the cache off for every task; True leaves it to the pipeline."""


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that an engine accepted."""

    id: str
    """The engine's own name of it."""
    url: str = ""
    """Where a person looks at it."""
    warnings: tuple[str, ...] = ()
    """What the engine was not told, because it does not know it."""


class RemoteArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact as the engine names it; its bytes stay there."""

    id: str
    """The engine's name; the same artifact has the same one wherever it is mentioned."""
    name: str
    type: str = "system.Artifact"
    uri: str = ""
    metadata: dict[str, Any] = {}
    """Metrics are here."""


class RemoteTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task; times in milliseconds since the epoch, None while it has not come to that."""

    id: str
    address: str
    """Its path through the nested pipelines; unique in the run."""
    name: str
    state: RemoteState
    error: str = ""
    started_at: int | None = None
    ended_at: int | None = None
    inputs: dict[str, tuple[RemoteArtifact, ...]] = {}
    outputs: dict[str, tuple[RemoteArtifact, ...]] = {}


class RemoteRun(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands."""

    state: RemoteState
    error: str = ""
    tasks: tuple[RemoteTask, ...] = ()


class RemoteEngine(Protocol):
    """A service that runs compiled pipelines."""

    @property
    def name(self) -> str:
        """What it is called: ``kubeflow`` or ``vertex``."""
        ...

    def submit(self, submission: Submission) -> Submitted:
        """Start a run; raise a `MainspringError` when the engine does not take it."""
        ...

    def look(self, id: str) -> RemoteRun:
        """Return how a run stands now."""
        ...

    def cancel(self, id: str) -> None:
        """Ask the engine to stop a run."""
        ...


@contextmanager
def explained(deed: str, refusal: Callable[[str, Exception], MainspringError]) -> Iterator[None]:
    """Turn what an engine's client raises into the one line that says what the engine would not do."""
    try:
        yield
    except MainspringError:
        raise
    except Exception as error:
        raise refusal(deed, error) from error
