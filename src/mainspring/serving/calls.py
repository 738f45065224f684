"""A prediction request on its way through an endpoint, and the id it is known by afterwards."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, time_ns

from mainspring.core import Clock, encode_id
from mainspring.serving.faults import BadRequest
from mainspring.serving.router import LoadedVariant, Router
from mainspring.serving.tracing import read_traceparent
from mainspring.serving.wire import Given, Headers, Parsed, Reply, Wire, usable_id

_MAX_KEY = 200
_MAX_SECONDS = 3_600.0
_KNOWN_IDS = 1 << 16
_PAIRS = tuple(encode_id(0, number.to_bytes(10, "big"))[-2:] for number in range(1024))
"""Two characters for ten bits."""


def _never() -> bool:
    return False


@dataclass(slots=True, eq=False)
class Call:
    """One prediction request, whatever its protocol."""

    wire: Wire
    respond: Callable[[Reply], None]
    received_at: int
    id: str = ""
    """The client's id from the header; else, once it is parsed, from the body; else one of ours. Unique in the log."""
    split_key: str = ""
    version: str = ""
    """The model version the client asks for by path; empty means by traffic split."""
    variant_name: str = ""
    """The variant the client asks for by header; empty means by traffic split."""
    seconds: float = math.inf
    """How long the client waits."""
    trace_id: str = ""
    parent_id: str = ""
    """The span that asked us."""
    size: int = 0
    """Bytes of the body."""
    is_gone: Callable[[], bool] = _never
    started: float = field(default_factory=perf_counter)
    router: Router | None = None
    variant: LoadedVariant | None = None
    parsed: Parsed | None = None
    given: Given | None = None
    rows: int = 0

    @property
    def latency_ms(self) -> float:
        """Milliseconds since the request was received."""
        return round((perf_counter() - self.started) * 1000, 3)


def make_call(wire: Wire, respond: Callable[[Reply], None], received_at: int, headers: Headers) -> Call:
    """Make a call with what its headers say: id, split key, variant, patience, trace (SageMaker's names work too)."""
    get = headers.get
    call = Call(wire, respond, received_at)
    wanted = get(b"x-request-id") or get(b"x-amzn-sagemaker-inference-id")
    if wanted:
        call.id = usable_id(wanted.decode("latin-1"))
    key = get(b"x-split-key")
    if key:
        call.split_key = key.decode("latin-1")[:_MAX_KEY]
    variant = get(b"x-variant") or get(b"x-amzn-sagemaker-target-variant")
    if variant:
        call.variant_name = variant.decode("latin-1")
    patience = get(b"x-request-timeout-ms")
    if patience:
        call.seconds = read_timeout(patience)
    trace = get(b"traceparent")
    if trace:
        context = read_traceparent(trace)
        if context is not None:
            call.trace_id, call.parent_id = context.trace_id, context.recorded_parent
    return call


def read_timeout(text: bytes) -> float:
    """Return the seconds of an ``x-request-timeout-ms`` header."""
    if not text.isdigit() or not 0 < int(text[:12]) <= _MAX_SECONDS * 1000:
        raise BadRequest("X-Request-Timeout-Ms must be a whole number of milliseconds from 1 to 3600000")
    return int(text) / 1000


class IdMaker:
    """Makes the ids of `mainspring.core.new_id` several times as fast, for one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._time_ms = -1
        self._head = ""
        self._random = b""
        self._used = 0

    def make(self) -> str:
        """Return 26 characters: the clock's milliseconds, the machine's nanoseconds, 24 random bits."""
        now = self._clock.now_ms()
        if now != self._time_ms:
            self._time_ms = now
            self._head = encode_id(now, bytes(10))[:10]
        if self._used >= len(self._random):
            self._random = os.urandom(3 * 1024)
            self._used = 0
        start = self._used
        self._used = start + 3
        low = (time_ns() & (1 << 56) - 1) << 24 | int.from_bytes(self._random[start : start + 3], "big")
        pair = _PAIRS
        return (
            f"{self._head}{pair[low >> 70]}{pair[low >> 60 & 1023]}{pair[low >> 50 & 1023]}{pair[low >> 40 & 1023]}"
            f"{pair[low >> 30 & 1023]}{pair[low >> 20 & 1023]}{pair[low >> 10 & 1023]}{pair[low & 1023]}"
        )


class KnownIds:
    """The ids of the newest requests: an id that is used again gets an ending, so that a label means one prediction."""

    def __init__(self, clock: Clock, size: int = _KNOWN_IDS) -> None:
        self._make = IdMaker(clock).make
        self._size = size
        self._new: set[str] = set()
        self._old: set[str] = set()

    def unique(self, wanted: str) -> str:
        """Return the id if it is new here; else the id, cut if need be, with an ending of ours; without one, ours."""
        if not wanted:
            return self._make()
        if wanted in self._new or wanted in self._old:
            return f"{wanted[:37]}-{self._make()}"
        if len(self._new) >= self._size:
            self._old, self._new = self._new, set()
        self._new.add(wanted)
        return wanted
