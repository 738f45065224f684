"""Queued pipeline runs, executed beside the controller loop: what the API and schedules record is run here."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

from mainspring.automation.training import SERVER_FILE, open_engine
from mainspring.core import Conflict, MainspringError
from mainspring.lineage import Store
from mainspring.pipelines import LocalLauncher, PipelineRun, next_queued_run

log = logging.getLogger("mainspring.queue")

SLOTS = 2
"""So many queued runs at the same time; more of them wait, or go to ``mainspring worker`` elsewhere."""


class RunQueue:
    """Executes queued runs in threads; a run that a killed scheduler left is taken up again, as any worker would."""

    def __init__(self, store: Store, *, slots: int = SLOTS) -> None:
        self._store = store
        log_file = store.settings.home / "logs" / "zygote.log"
        self._free = [LocalLauncher(home=store.settings.home, log=log_file) for _ in range(slots)]
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="queued-run")
        self._current: dict[str, tuple[LocalLauncher, Future[PipelineRun]]] = {}

    def __enter__(self) -> RunQueue:
        return self

    def __exit__(self, *_: object) -> None:
        for launcher in (*self._free, *(launcher for launcher, _ in self._current.values())):
            launcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def tend(self) -> bool:
        """Settle runs that have ended, begin what waits; return whether any is executed here."""
        for run_id, (launcher, future) in list(self._current.items()):
            if future.done():
                del self._current[run_id]
                self._free.append(launcher)
                self._settle(run_id, future)
        if self._free:
            self._begin()
        return bool(self._current)

    def _begin(self) -> None:
        if not (self._store.settings.home / SERVER_FILE).is_file():
            return  # tasks log to the server: wait until it is there
        engine = open_engine(self._store, self._free[-1])
        run_id = next_queued_run(engine.place)
        if run_id is None or run_id in self._current:
            return
        self._current[run_id] = (self._free.pop(), self._pool.submit(engine.execute, run_id))

    def _settle(self, run_id: str, future: Future[PipelineRun]) -> None:
        error = future.exception()
        if isinstance(error, Conflict):
            return  # a worker was quicker
        if isinstance(error, MainspringError):
            log.error("run.failed run=%s message=%s hint=%s", run_id, error.message, error.hint)
        elif error is not None:
            log.error("run.failed run=%s", run_id, exc_info=error)
