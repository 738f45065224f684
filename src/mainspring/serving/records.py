"""What the endpoint writes down: one prediction record per request and variant, one label record per label."""

from __future__ import annotations

import msgspec


class PredictionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One answered (or refused, or shadowed) request, as one JSON line.

    ``id`` and ``received_at`` come first in the line: the reader filters on them without decoding the rest.
    A row's own id is ``<id>:<row>``, rows counted from 0.
    """

    id: str
    received_at: int
    latency_ms: float
    endpoint: str
    revision: int
    variant: str
    shadow: bool
    model: str
    version: str
    digest: str
    protocol: str
    status: int
    rows: int
    inputs: dict[str, list[object]] | None = None
    """Columns of the request as the client sent them; none if they could not be parsed or were refused and large."""
    outputs: list[object] | None = None
    validation_errors: list[str] = []
    split_key: str = ""


class LabelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What turned out to be true for one predicted row."""

    id: str
    """``<request id>:<row>``."""
    label: float
    time: int
    """When it became known, ms since the epoch."""
    received_at: int
