"""What the endpoint writes down: one prediction record per request and variant, one label record per label."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    Columns: TypeAlias = dict[str, list[object]]
else:
    Columns: TypeAlias = dict[str, list[object]] | tuple[list[str], list[object]]
    """What a line may hold; whoever reads a record finds columns."""


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
    inputs: Columns | None = None
    """Columns of the request as the client sent them; none if they could not be parsed or were refused and large.

    In the line they may also be a list: the names, and the numbers of all rows in one list, as they were sent.
    """
    outputs: list[object] | None = None
    validation_errors: list[str] = []
    split_key: str = ""
    queue_ms: float = 0.0
    """Of ``latency_ms``, the part spent waiting for a batch."""
    predict_ms: float = 0.0
    """Of ``latency_ms``, the part spent in the model call that answered the whole batch."""
    batch_rows: int = 0
    """Rows of that model call, this request's included."""
    trace_id: str = ""
    """The W3C trace the request belongs to, 32 hex digits; empty if nobody traces it."""
    parent_id: str = ""
    """The caller's span, 16 hex digits; all zeros if the caller does not record this trace."""
    delivered: bool = True
    """False if the client had gone when the answer was ready."""
    sample: float = 1.0
    """The share of requests like this one that is logged: counted as ``1 / sample`` requests in estimates."""
    hidden: list[str] = []
    """Columns left out or hashed because they are personal."""

    def __post_init__(self) -> None:
        """Turn a list of names and numbers, read from a line, into columns."""
        given: object = self.inputs
        if isinstance(given, tuple):
            names, numbers = given
            columns = {name: numbers[place :: len(names)] for place, name in enumerate(names)}
            msgspec.structs.force_setattr(self, "inputs", columns)


class LabelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What turned out to be true: for one predicted row by its id, or by an entity's key.

    By key it is the truth of the newest row that was predicted, at ``at`` or before, for the entity whose input
    ``column`` is ``value``.
    """

    id: str = ""
    """``<request id>:<row>``; empty for a label by key."""
    label: float
    time: int
    """When it became known, ms since the epoch."""
    received_at: int
    column: str = ""
    value: str = ""
    """The key as text; whole numbers without a fraction."""
    at: int = 0
    """The moment the prediction was for, ms since the epoch."""


def key_text(value: object) -> str:
    """Return a key as the text it is compared by: whole numbers without a fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
