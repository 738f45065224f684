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
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from mainspring.core import Clock, Conflict, new_id
from mainspring.db import Database, Session, session_of
from mainspring.db.tables.pipelines import pipeline_worker

log = logging.getLogger("mainspring.pipelines")

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


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """The row of an engine or a worker."""

    id: str
    host: str
    pid: int
    lock: str
    slots: int
    expires_at: int


class Presence:
    """A process at work: registers, renews in the background, and leaves."""

    def __init__(self, database: Database, clock: Clock, folder: Path, *, slots: int, times: LeaseTimes) -> None:
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
        with contextlib.suppress(SQLAlchemyError), self._database.write() as connection:
            connection.execute(sa.delete(pipeline_worker).where(pipeline_worker.c.id == self.id))
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    @property
    def is_fenced(self) -> bool:
        """Whether the last sign of life is so old that others may soon think this process dead."""
        return perf_counter() - self._renewed > self._times.fence

    def register(self, connection: sa.Connection) -> None:
        """Record that this process is at work, inside the caller's transaction."""
        row = Worker(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            lock=str(self._path),
            slots=self._slots,
            expires_at=self._expiry(),
        )
        connection.execute(sa.insert(pipeline_worker).values(**msgspec.structs.asdict(row)))
        self._renewed = perf_counter()

    def renew(self) -> None:
        """Give a sign of life."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(pipeline_worker).where(pipeline_worker.c.id == self.id).values(expires_at=self._expiry())
            )
        self._renewed = perf_counter()

    def _expiry(self) -> int:
        return self._clock.now_ms() + round(self._times.lease * 1000)

    def _renew_until_stopped(self) -> None:
        while not self._stopping.wait(self._times.heartbeat):
            try:
                self.renew()
            except (SQLAlchemyError, OSError) as error:
                log.warning("heartbeat.failed worker=%s error=%s", self.id, error)


def check_token(connection: sa.Connection | Session, run_id: str, token: int) -> None:
    """Raise `LostLease` unless this is still the newest holder of the run; holds others off until the commit."""
    session = session_of(connection)
    row = session.row(_HOLDER if session.is_sqlite else f"{_HOLDER} FOR SHARE", (run_id,))
    if row is None or row[0] != token:
        raise LostLease(f"Another engine has taken over run {run_id}.", hint="Let that one finish it.")


def find_worker(connection: sa.Connection, id: str) -> Worker | None:
    """Return the row of an engine or worker, or None."""
    row = connection.execute(sa.select(pipeline_worker).where(pipeline_worker.c.id == id)).mappings().first()
    return Worker(**row) if row else None


def is_alive(worker: Worker | None, clock: Clock) -> bool:
    """Say whether an engine or worker is to be taken for alive."""
    if worker is None:
        return False
    if worker.host == socket.gethostname():
        return _is_locked(Path(worker.lock))
    return worker.expires_at > clock.now_ms()


def living_workers(connection: sa.Connection, clock: Clock, but: str) -> list[Worker]:
    """Return all engines and workers that live, but one."""
    rows = connection.execute(sa.select(pipeline_worker).where(pipeline_worker.c.id != but)).mappings()
    return [worker for row in rows if is_alive(worker := Worker(**row), clock)]


def forget_dead(connection: sa.Connection, clock: Clock) -> None:
    """Remove the rows of engines and workers that are dead."""
    for row in connection.execute(sa.select(pipeline_worker)).mappings().all():
        worker = Worker(**row)
        if not is_alive(worker, clock):
            connection.execute(sa.delete(pipeline_worker).where(pipeline_worker.c.id == worker.id))


def end_strays(folder: Path) -> int:
    """Kill what still works in the folder of a task whose engine is dead; return how many processes that were.

    A task's processes stand in its folder. They die with their engine, but a moment later, and a task must not
    start again while its last attempt still runs.
    """
    ended = 0
    for _ in range(50):
        pids = list(_processes_in(folder))
        if not pids:
            return ended
        ended += len(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        threading.Event().wait(0.01)
    return ended


def _processes_in(folder: Path) -> Iterator[int]:
    inside = f"{folder}{os.sep}"
    for entry in os.scandir("/proc") if Path("/proc").is_dir() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"{Path(entry.path, 'cwd').readlink()}{os.sep}".startswith(inside):
                    yield int(entry.name)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
