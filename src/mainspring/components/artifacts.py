"""The part of a KFP artifact the steps use."""

from __future__ import annotations

from typing import Protocol


class ArtifactFile(Protocol):
    """The part of a KFP artifact the steps use."""

    path: str
    metadata: dict[str, object]
