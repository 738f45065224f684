"""W3C Trace Context: read a ``traceparent``, continue the trace, write the next one. Pure functions of bytes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import blake2b

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
HEADER = b"traceparent"
NOT_RECORDED = "0" * 16


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of a trace: ours, or the caller's."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    is_sampled: bool
    parent_id: str = ""
    """The span that asked us; empty if the trace begins here."""

    @property
    def recorded_parent(self) -> str:
        """The span as the ``parent_id`` of a record: zeros if whoever traces does not record."""
        return self.span_id if self.is_sampled else NOT_RECORDED

    @property
    def header(self) -> bytes:
        """The ``traceparent`` that says so."""
        return b"00-%s-%s-%02x" % (self.trace_id.encode(), self.span_id.encode(), self.is_sampled)

    def child(self, entropy: bytes | None = None) -> TraceContext:
        """Return a new span of the same trace, below this one; ``entropy`` are eight random bytes."""
        span_id = (entropy or os.urandom(8)).hex()
        return TraceContext(self.trace_id, span_id, self.is_sampled, self.span_id)


def read_traceparent(header: bytes) -> TraceContext | None:
    """Read a ``traceparent`` header; None for what the standard says to ignore (a broken one starts a new trace).

    Later versions are read as version 00, as the standard asks, and ff is no version.

    >>> read_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").span_id
    'b7ad6b7169203331'
    """
    match = _TRACEPARENT.fullmatch(header.strip()) if len(header) <= 512 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == b"ff" or not trace_id.strip(b"0") or not span_id.strip(b"0") or (version == b"00" and rest):
        return None
    return TraceContext(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED))


def span_of(request_id: str) -> str:
    """Return the span of a request, 16 hex digits: whoever knows the request knows it."""
    return blake2b(request_id.encode(), digest_size=8).hexdigest()


def start_trace(entropy: bytes | None = None, *, is_sampled: bool = True) -> TraceContext:
    """Begin a trace; ``entropy`` are 24 random bytes."""
    random = entropy or os.urandom(24)
    return TraceContext(random[:16].hex(), random[16:24].hex(), is_sampled)
