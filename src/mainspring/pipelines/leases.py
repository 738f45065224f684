"""Who works on what: engines and workers, how long the others believe they live, and how the dead are told.

An engine or worker has a row with an expiry it renews in the background, and holds a lock on a file. On the same host
the lock tells at once whether it lives, whatever killed it; elsewhere the expiry does. Times are real ones: the clock
given here is the machine's, also when the project lives by a simulated one. One that could not renew in time stops
its own tasks before anybody else may start them again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import threading
from pathlib import Path
from time import perf_counter

import msgspec

from mainspring.core import Clock, Conflict, new_id
from mainspring.db import Session, driver_errors
from mainspring.pipelines.patience import Store

log = logging.getLogger("mainspring.pipelines")

_WORKERS = "SELECT id,host,pid,lock,slots,expires_at FROM pipeline_worker"
_REGISTER = "INSERT INTO pipeline_worker (id,host,pid,lock,slots,expires_at) VALUES (?,?,?,?,?,?)"
_FORGET = "DELETE FROM pipeline_worker WHERE id=?"
_HOLDER = "SELECT token FROM pipeline_run WHERE id=?"


class LeaseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long a sign of life counts, how often one is given, and when one stops trusting one's own (seconds)."""

    lease: float = 15.0
    heartbeat: float = 3.0
    fence: float = 10.0
    poll: float = 0.5
    """How often an engine looks whether somebody wants its run canceled."""


class LostLease(Conflict):
    """Another engine has taken over the run, because this one seemed dead."""


class Worker(msgspec.Struct, frozen=True):
    """The row of an engine or a worker."""

    id: str
    host: str
    pid: int
    lock: str
    slots: int
    expires_at: int


class Presence:
    """A process at work: registers, renews in the background, and leaves."""

    def __init__(self, database: Store, clock: Clock, folder: Path, *, slots: int, times: LeaseTimes) -> None:
        self.id = new_id(clock)
        self._database = database
        self._clock = clock
        self._slots = slots
        self._times = times
        self._path = folder / "engines" / f"{self.id}.lock"
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._descriptor = -1
        self._renewed = perf_counter()

    def __enter__(self) -> Presence:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._thread = threading.Thread(target=self._renew_until_stopped, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(*driver_errors()), self._database.write_session() as session:
            session.run(_FORGET, (self.id,))
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    @property
    def is_fenced(self) -> bool:
        """Whether the last sign of life is so old that others may soon think this process dead."""
        return perf_counter() - self._renewed > self._times.fence

    def register(self, session: Session) -> None:
        """Record that this process is at work, or still is, inside the caller's transaction."""
        row = Worker(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            lock=str(self._path),
            slots=self._slots,
            expires_at=self._expiry(),
        )
        session.run(_FORGET, (self.id,))
        session.run(_REGISTER, msgspec.structs.astuple(row))
        self._renewed = perf_counter()

    def renew(self) -> bool:
        """Give a sign of life; say whether it could be recorded. Others may have forgotten this process meanwhile."""
        failures: tuple[type[Exception], ...] = (OSError, *driver_errors())
        try:
            with self._database.write_session() as session:
                moment = perf_counter()
                self.register(session)
        except failures as error:
            log.warning("heartbeat.failed worker=%s error=%s", self.id, error)
            return False
        self._renewed = moment
        return True

    def _expiry(self) -> int:
        return self._clock.now_ms() + round(self._times.lease * 1000)

    def _renew_until_stopped(self) -> None:
        while not self._stopping.wait(self._times.heartbeat):
            self.renew()


class Watch:
    """Tells who hangs: holds its lock, so it is not dead, and yet gave no sign of life for a whole lease.

    Counted on this process's own monotonic clock and only while it looks on, so that nobody is taken for dead because
    the machine slept or its clock was changed.
    """

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._looked = perf_counter()
        self._seen: dict[str, tuple[int, float]] = {}

    def expel(self, database: Store, but: str = "") -> list[str]:
        """Forget those who hang, all others then take them for dead; return their ids. ``but`` is one's own."""
        with database.session() as session:
            workers = [Worker(*row) for row in session.rows(f"{_WORKERS} WHERE id<>?", (but,))]
        now = perf_counter()
        if now - self._looked > self._times.lease / 2:
            self._seen.clear()  # this process itself stood still
        self._looked = now
        known, self._seen = self._seen, {}
        for worker in workers:
            expiry, since = known.get(worker.id, (0, now))
            self._seen[worker.id] = (worker.expires_at, since if expiry == worker.expires_at else now)
        hung = [id for id, (_, since) in self._seen.items() if now - since > self._times.lease]
        for id in hung:
            log.warning("worker.hangs worker=%s", id)
            with database.write_session() as session:
                session.run(f"{_FORGET} AND expires_at=?", (id, self._seen[id][0]))
        return hung


def check_token(session: Session, run_id: str, token: int) -> None:
    """Raise `LostLease` unless this is still the newest holder of the run; holds others off until the commit."""
    row = session.row(_HOLDER if session.is_sqlite else f"{_HOLDER} FOR SHARE", (run_id,))
    if row is None or row[0] != token:
        raise LostLease(f"Another engine has taken over run {run_id}.", hint="Let that one finish it.")


def find_worker(session: Session, id: str) -> Worker | None:
    """Return the row of an engine or worker, or None."""
    row = session.row(f"{_WORKERS} WHERE id=?", (id,))
    return Worker(*row) if row else None


def is_alive(worker: Worker | None, clock: Clock) -> bool:
    """Say whether an engine or worker is to be taken for alive."""
    if worker is None:
        return False
    if worker.host == socket.gethostname():
        return _is_locked(Path(worker.lock))
    return worker.expires_at > clock.now_ms()


def living_workers(session: Session, clock: Clock, but: str) -> list[Worker]:
    """Return all engines and workers that live, but one."""
    rows = session.rows(f"{_WORKERS} WHERE id<>?", (but,))
    return [worker for row in rows if is_alive(worker := Worker(*row), clock)]


def forget_dead(session: Session, clock: Clock) -> None:
    """Remove the rows of engines and workers that are dead."""
    for worker in (Worker(*row) for row in session.rows(_WORKERS)):
        if not is_alive(worker, clock):
            session.run(_FORGET, (worker.id,))


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # so that two who look do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
