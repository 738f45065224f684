"""When an earlier result may stand in for a task: the key it is found by, and the check of its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mainspring.blobs import LocalBlobs, digest_of, read_tree
from mainspring.core import Corrupt, InvalidInput, NotFound
from mainspring.db import Session
from mainspring.pipelines.component import ContainerComponent
from mainspring.pipelines.plan import DagPlan
from mainspring.pipelines.records import TaskRun, find_results
from mainspring.pipelines.schedule import ReadyTask
from mainspring.pipelines.values import ArtifactValue, Values

ANOTHER_ATTEMPT = "off: another attempt, after one that did not end well"


class CacheDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about using an earlier result for a task, and why; ``found`` is the one that is used."""

    key: str
    reason: str
    found: TaskRun | None = None


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """The results that may stand in for a task, as far as records tell; whether their bytes do is not known yet."""

    key: str
    reason: str
    results: tuple[TaskRun, ...] = ()


def decide_cache(
    session: Session,
    blobs: LocalBlobs,
    item: ReadyTask,
    environment: Mapping[str, str],
    *,
    use_cache: bool,
    is_first: bool,
) -> CacheDecision:
    """Look for an earlier result that may stand in for a task; its bytes are hashed again before it does."""
    earlier = find_earlier(session, item, environment, use_cache=use_cache, is_first=is_first)
    for result in earlier.results:
        if is_intact(blobs, result.outputs):
            return CacheDecision(key=earlier.key, reason=f"hit: the result of run {result.run_id}", found=result)
    if earlier.results:
        run_id = earlier.results[0].run_id
        return CacheDecision(key=earlier.key, reason=f"miss: the bytes of run {run_id} are gone or were changed")
    return CacheDecision(key=earlier.key, reason=earlier.reason)


def find_earlier(
    session: Session,
    item: ReadyTask,
    environment: Mapping[str, str],
    *,
    use_cache: bool,
    is_first: bool,
) -> Earlier:
    """Look in the records only, which is quick enough to be done while others wait to write."""
    key = cache_key(item, environment)
    if not use_cache:
        return Earlier(key=key, reason="off: the run was started without the cache")
    if not item.caches:
        return Earlier(key=key, reason="off: the pipeline switches it off for this task")
    if not is_first:
        return Earlier(key=key, reason=ANOTHER_ATTEMPT)
    none = "miss: no earlier result with this definition and these inputs"
    return Earlier(key=key, reason=none, results=tuple(find_results(session, key)))


def cache_key(ready: ReadyTask, environment: Mapping[str, str]) -> str:
    """Return the key of a task's result.

    It covers the component's definition (source or command, image, requirements), the variables it sets, the
    parameters, what the input artifacts hold (not where they came from) and the outputs that are declared; a
    ``cacheKey`` of the pipeline's author replaces all of it but the component's name.
    """
    task = ready.task
    assert not isinstance(task.body, DagPlan)
    if task.cache_key:
        return digest_of(msgspec.json.encode(["key", task.cache_key, task.component]))
    interface = task.interface
    outputs = [
        {name: parameter.type for name, parameter in interface.output_parameters.items()},
        {name: spec.artifact_type.title for name, spec in interface.output_artifacts.items()},
    ]
    artifacts = {name: _content(value) for name, value in ready.inputs.artifacts.items()}
    lists = {name: [_content(value) for value in values] for name, values in ready.inputs.lists.items()}
    is_container = isinstance(task.body, ContainerComponent)
    parameters = interface.with_defaults(ready.given) if is_container else ready.inputs.parameters
    document = ["content", task.body.digest, dict(environment), parameters, artifacts, lists, outputs]
    return digest_of(msgspec.json.encode(document, order="deterministic"))


def _content(value: ArtifactValue) -> list[Any]:
    """Return what makes an artifact what it is: its bytes, or its address when it has none here."""
    return [value.type, value.kind, value.digest, value.digest or value.uri, value.metadata]


def is_intact(blobs: LocalBlobs, outputs: Values) -> bool:
    """Say whether all bytes of a recorded result are still stored and still match their digests."""
    try:
        for _, value in outputs.all_artifacts():
            verify_artifact(blobs, value)
    except (Corrupt, NotFound, InvalidInput):
        return False
    return True


def verify_artifact(blobs: LocalBlobs, value: ArtifactValue) -> None:
    """Hash an artifact's bytes again; raise `Corrupt` or `NotFound` when they are not what was recorded."""
    if value.digest is None:
        return
    blobs.path(value.digest)
    if value.kind == "folder":
        for file in read_tree(blobs, value.digest):
            blobs.path(file.digest)
