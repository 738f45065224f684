"""Shadow predictions: after the answer has been sent, and never on a caller's clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from math import inf
from time import perf_counter

from mainspring.core import Clock, MainspringError
from mainspring.serving.batcher import Job
from mainspring.serving.calls import Call
from mainspring.serving.log import DAY_MS
from mainspring.serving.router import LoadedVariant

MAX_SHADOWS = 1_000
"""Requests that may wait to be shadowed; more are dropped and counted."""
_MAX_BYTES = 64 << 20
"""Bytes of their bodies, together."""
_IN_FLIGHT = 64
"""Shadow predictions that are handed to the models at a time."""


class Shadows:
    """The queue of answered requests whose mirrors have not predicted yet."""

    def __init__(
        self,
        clock: Clock,
        submit: Callable[[Call, LoadedVariant], Job],
        fail: Callable[[Call, MainspringError], None],
        drop: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._submit = submit
        self._fail = fail
        self._drop = drop
        self._queue: deque[Call] = deque()
        self._bytes = 0
        self._in_flight = 0
        self._is_scheduled = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is being predicted."""
        return not self._queue and not self._in_flight

    def add(self, call: Call) -> None:
        """Queue an answered request for the variants that mirror it; drop and count it if the queue is full."""
        if call.router is None or call.variant is None or not call.router.mirrors_of(call.variant):
            return
        if len(self._queue) >= MAX_SHADOWS or self._bytes + call.size > _MAX_BYTES:
            self._drop()
            return
        self._queue.append(call)
        self._bytes += call.size
        self._schedule()

    def finished(self, count: int) -> None:
        """Take note that so many shadow predictions have been logged."""
        self._in_flight -= count
        self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._is_scheduled and self._in_flight < _IN_FLIGHT:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._is_scheduled = False
        while self._queue and self._in_flight < _IN_FLIGHT:
            call = self._queue.popleft()
            self._bytes -= call.size
            if self._clock.now_ms() - call.received_at >= DAY_MS:
                self._drop()
                continue
            self._mirror(call)

    def _mirror(self, call: Call) -> None:
        assert call.router is not None
        assert call.variant is not None
        for variant in call.router.mirrors_of(call.variant):
            copy = replace(call, variant=variant, started=perf_counter(), seconds=inf)
            try:
                self._submit(copy, variant)
            except MainspringError as error:
                self._fail(copy, error)
            else:
                self._in_flight += 1
