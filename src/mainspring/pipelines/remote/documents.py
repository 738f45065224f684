"""A compiled file's two documents: the pipeline, and what it asks of the platform."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from mainspring.core import InvalidInput


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
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = [document for document in yaml.load_all(ir, Loader=loader) if document is not None]
    except yaml.YAMLError as error:
        raise InvalidInput(f"The compiled pipeline cannot be read: {str(error).splitlines()[0]}.") from error
    if not found or not all(isinstance(document, dict) for document in found):
        raise InvalidInput("This is not a compiled pipeline.", hint="Compile it with kfp.")
    pipeline = found[0].get("pipelineSpec", found[0])
    return Documents(pipeline=pipeline, platform=found[1] if len(found) > 1 else None)


def write_documents(documents: Documents) -> bytes:
    """Write the parts back as one file."""
    parts = [documents.pipeline] + ([documents.platform] if documents.platform else [])
    return yaml.safe_dump_all(parts, sort_keys=False).encode()
