"""The thread that sends a run's spool while the run goes on: batches, back-off, and no say in the training loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from mainspring.client.shipping import ship_available, ship_spools
from mainspring.client.sinks import Sink
from mainspring.client.spool import Spool
from mainspring.core import MainspringError, Unavailable

log = logging.getLogger("mainspring.client")
INTERVAL_S = 0.2
MAX_BACK_OFF_S = 30.0


def back_off(failures: int) -> float:
    """Return how long to wait after so many failures in a row, in seconds: doubling, up to half a minute."""
    return min(MAX_BACK_OFF_S, 0.25 * 2.0 ** min(failures, 10))


class Shipper:
    """Sends one spool in the background; it reads from the file, so memory does not grow with what waits.

    When it is stopped it sends the rest, removes the spool if all of it has arrived, and lets it go.
    """

    def __init__(self, spool: Spool, open_sink: Callable[[], Sink | None]) -> None:
        self._spool = spool
        self._open_sink = open_sink
        self._sink: Sink | None = None
        self._work = threading.Event()
        self._changed = threading.Condition()
        self._failures = 0
        self._rounds = 0
        self._is_hurried = False
        self._deadline: float | None = None
        self._has_arrived = False
        self._thread = threading.Thread(target=self._run, name=f"mainspring-{spool.start.run_id[:8]}", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Say that there is something to send."""
        if not self._work.is_set():
            self._work.set()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything appended so far has arrived; False if the server does not answer or time is up."""
        wanted, deadline = self._spool.acknowledged, monotonic() + timeout_s
        with self._changed:
            rounds = self._rounds
            self._hurry()
            while self._spool.arrived < wanted:
                left = deadline - monotonic()
                if left <= 0 or (self._failures and self._rounds > rounds) or not self._thread.is_alive():
                    return False
                self._changed.wait(min(left, 0.5))
        return True

    def stop(self, timeout_s: float) -> bool:
        """Send what is left, for at most ``timeout_s``, and say whether everything has arrived."""
        with self._changed:
            self._deadline = monotonic() + timeout_s
            self._hurry()
        self._thread.join(timeout_s + 0.5)
        return self._has_arrived

    def _hurry(self) -> None:
        self._is_hurried = True
        self._work.set()
        self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._deadline is None:
                self._work.wait()
                self._work.clear()
                self._round()
                self._pause()
            if not self._is_done():
                self._round()
            self._finish()
        finally:
            if self._sink is not None:
                self._sink.close()
            self._spool.close()

    def _round(self) -> None:
        failures = 0
        try:
            self._ship()
        except (MainspringError, OSError) as error:
            failures = self._failures + 1
            if failures == 1 and self._sink is not None:
                log.warning("run %s waits in %s: %s", self._spool.start.run_id, self._spool.path, error)
            if self._sink is not None:
                self._sink.close()
                self._sink = None
        with self._changed:
            self._failures = failures
            self._rounds += 1
            self._changed.notify_all()

    def _ship(self) -> None:
        if self._sink is None:
            self._sink = self._open_sink()
        if self._sink is None:
            raise Unavailable("No server runs.")
        ship_available(self._spool, self._sink, on_progress=self._tell, should_stop=self._is_late)

    def _finish(self) -> None:
        """Remove the spool if it has arrived, and send what forked children of the run left behind."""
        if not self._is_done():
            return
        self._spool.remove()
        self._has_arrived = True
        if self._sink is not None:
            try:
                ship_spools(self._spool.path.parent, self._sink, run_id=self._spool.progress.run_id)
            except (MainspringError, OSError) as error:
                log.warning("spools of run %s wait: %s", self._spool.start.run_id, error)

    def _is_done(self) -> bool:
        return self._spool.progress.offset >= self._spool.size

    def _is_late(self) -> bool:
        return self._deadline is not None and monotonic() > self._deadline

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _pause(self) -> None:
        """Let a batch collect, or a server recover; a flush or the end cuts it short."""
        with self._changed:
            if self._failures:
                self._work.set()  # there is something left
            wait_s = back_off(self._failures) if self._failures else INTERVAL_S
            deadline = monotonic() + wait_s
            while not self._is_hurried and (left := deadline - monotonic()) > 0:
                self._changed.wait(left)
            self._is_hurried = False
