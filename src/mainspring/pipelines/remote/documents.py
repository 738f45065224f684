"""A compiled file's two documents: the pipeline, and what it asks of the platform."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from mainspring.core import Foreign, InvalidInput
from mainspring.pipelines.reading import read_documents


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a compiled file."""

    pipeline: dict[str, Any]
    platform: dict[str, Any] | None = None

    @property
    def platform_settings(self) -> tuple[str, ...]:
        """What the platform's document asks for: ``kubernetes: exec-train: secretAsEnv``."""
        found = []
        for platform, settings in ((self.platform or {}).get("platforms") or {}).items():
            executors = (settings.get("deploymentSpec") or {}).get("executors") or {}
            found += [f"{platform}: {label}: {key}" for label, keys in executors.items() for key in keys]
            found += [f"{platform}: {key}" for key in settings if key != "deploymentSpec"]
        return tuple(found)


def split_documents(ir: bytes) -> Documents:
    """Read a compiled file; raise `InvalidInput` when it is none."""
    found = read_documents(ir)
    if not found or not all(isinstance(document, dict) for document in found):
        raise InvalidInput("This is not a compiled pipeline.", hint="Compile it with kfp.")
    pipeline = found[0].get("pipelineSpec", found[0])
    if not isinstance(pipeline, dict):
        raise InvalidInput("The pipelineSpec is not a compiled pipeline.", hint="Compile it with kfp.")
    return Documents(pipeline=pipeline, platform=found[1] if len(found) > 1 else None)


def without_cache(documents: Documents) -> Documents:
    """Switch the cache off for every task, also for those in loops, branches and nested pipelines."""
    pipeline = dict(documents.pipeline)
    pipeline["root"] = _without_cache(pipeline.get("root"))
    pipeline["components"] = {name: _without_cache(found) for name, found in (pipeline.get("components") or {}).items()}
    return msgspec.structs.replace(documents, pipeline=pipeline)


def _without_cache(component: Foreign) -> Foreign:  # a part of a document
    if not isinstance(component, dict) or "dag" not in component:
        return component
    dag = component["dag"]
    tasks = {name: {**task, "cachingOptions": {}} for name, task in (dag.get("tasks") or {}).items()}
    return {**component, "dag": {**dag, "tasks": tasks}}


def write_documents(documents: Documents) -> bytes:
    """Write the parts back as one file."""
    parts = [documents.pipeline] + ([documents.platform] if documents.platform else [])
    return yaml.safe_dump_all(parts, sort_keys=False).encode()
