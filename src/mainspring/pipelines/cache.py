"""When an earlier result may stand in for a task: the key it is found by, and the check of its bytes."""

from __future__ import annotations

import msgspec

from mainspring.blobs import LocalBlobs, digest_of, read_tree
from mainspring.core import Corrupt, InvalidInput, NotFound
from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.plan import TaskPlan
from mainspring.pipelines.values import ArtifactValue, Values


def cache_key(task: TaskPlan, component: PythonComponent, inputs: Values) -> str:
    """Return the key of a task's result.

    It covers the component's definition, the parameters, what the input artifacts hold (not where they came
    from) and the outputs that are declared; a ``cacheKey`` of the pipeline's author replaces all of it but the
    component's name.
    """
    if task.cache_key:
        return digest_of(msgspec.json.encode(["key", task.cache_key, component.function]))
    artifacts = {
        name: [value.type, value.kind, value.digest, value.metadata] for name, value in inputs.artifacts.items()
    }
    interface = task.interface
    outputs = [
        {name: parameter.type for name, parameter in interface.output_parameters.items()},
        {name: spec.artifact_type.schema_title for name, spec in interface.output_artifacts.items()},
    ]
    document = ["content", component.digest, inputs.parameters, artifacts, outputs]
    return digest_of(msgspec.json.encode(document, order="deterministic"))


def is_intact(blobs: LocalBlobs, outputs: Values) -> bool:
    """Say whether all bytes of a recorded result are still stored and still match their digests."""
    try:
        for value in outputs.artifacts.values():
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
