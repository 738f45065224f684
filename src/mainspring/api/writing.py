"""The writer as coroutines use it: they wait for the commit, the event loop does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from mainspring.db import Database, Job, Session, Settled, Writer
from mainspring.db.writer import tell_all

T = TypeVar("T")


class LoopWriter:
    """A group-commit writer that answers on the event loop, once for each group."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer: Writer | None = None

    async def run(self, work: Callable[[Session], T]) -> T:
        """Run some work in a transaction and return its result when it is committed."""
        loop = asyncio.get_running_loop()
        if self._writer is None:
            self._writer = Writer(self._database, partial(_deliver, loop))
        future: asyncio.Future[T] = loop.create_future()
        self._writer.submit(Job(work, partial(_resolve, future)))
        return await future

    def close(self) -> None:
        """Commit what is queued and stop; no loop needs to run for that."""
        if self._writer is not None:
            self._writer.close()


def _deliver(loop: asyncio.AbstractEventLoop, settled: list[Settled]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(tell_all, settled)


def _resolve(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():  # the client has gone
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
