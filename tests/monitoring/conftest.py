"""Small prediction logs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from mainspring.serving import LabelRecord, PredictionRecord

# A shared machine stalls now and then; how long one example takes says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def predict() -> Callable[..., PredictionRecord]:
    """Make a prediction record from what matters for a test."""

    def make(id: str, outputs: list[object] | None, *, at: int = 0, **changes: object) -> PredictionRecord:
        fields: dict[str, object] = {
            "latency_ms": 1.0, "endpoint": "e", "revision": 1, "variant": "champion", "shadow": False, "model": "m",
            "version": "1", "digest": DIGEST, "protocol": "v2", "status": 200, "rows": len(outputs or ()),
        }  # fmt: skip
        return PredictionRecord(id=id, received_at=at, outputs=outputs, **{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def label() -> Callable[..., LabelRecord]:
    """Make a label record."""

    def make(id: str, value: float, *, at: int = 0) -> LabelRecord:
        return LabelRecord(id=id, label=value, time=at, received_at=at)

    return make
