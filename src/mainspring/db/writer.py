"""Group commit: one thread writes, and whatever waits when it is free shares one transaction.

Nobody waits for a timer: alone, a job is committed at once; under load, the jobs that arrive during one commit make up
the next. Each job runs in its own savepoint, so one that fails is answered with its error and the others are kept. A
job's answer is given after the commit, never before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import msgspec

from mainspring.db.engine import Database
from mainspring.db.session import Session, driver_errors

Work: TypeAlias = Callable[[Session], Any]
MAX_GROUP = 256


class Job(msgspec.Struct, frozen=True, eq=False):
    """What somebody wants written: ``work`` does it, ``done`` is told the result or the error, after the commit."""

    work: Work
    done: Callable[[Any, Exception | None], None]


class Settled(msgspec.Struct, frozen=True, eq=False):
    """How a job ended."""

    job: Job
    result: Any
    error: Exception | None

    def tell(self) -> None:
        """Tell whoever asked."""
        self.job.done(self.result, self.error)


def tell_all(settled: list[Settled]) -> None:
    """Tell everybody how their jobs ended."""
    for one in settled:
        one.tell()


class Writer:
    """The thread that commits; it starts with the first job and ends with `close`."""

    def __init__(self, database: Database, deliver: Callable[[list[Settled]], None] = tell_all) -> None:
        self._database = database
        self._deliver = deliver
        self._waiting: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._session: Session | None = None
        self._version = -1

    def submit(self, job: Job) -> None:
        """Queue a job; its ``done`` is called from the writer's thread unless ``deliver`` does otherwise."""
        if self._thread is None:
            self._start()
        self._waiting.put(job)

    def close(self) -> None:
        """Commit what is queued, then end; jobs submitted later are never run."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._forget_session()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            jobs, is_last = self._take()
            if jobs:
                self._deliver(self._settle(jobs))
            if is_last:
                return

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for a job and return it with all that wait already, and whether they are the last."""
        jobs: list[Job] = []
        job = self._waiting.get()
        try:
            while job is not None:
                jobs.append(job)
                if len(jobs) == MAX_GROUP:
                    return jobs, False
                job = self._waiting.get_nowait()
        except Empty:
            return jobs, False
        return jobs, True

    def _settle(self, jobs: list[Job], *, again: bool = True) -> list[Settled]:
        """Run the jobs in one transaction; where that is not possible, each in its own."""
        try:
            session = self._open_session()
            with self._database.exclusive():
                return self._commit(session, jobs)
        except CommitFailed as error:
            self._roll_back()
            return [Settled(job, None, error.cause) for job in jobs]
        except Exception as error:  # noqa: BLE001 - the supervision point of all jobs: an error belongs to its job
            was_open = self._session is not None
            is_lost = not self._roll_back()
            if is_lost and was_open and again:
                return self._settle(jobs, again=False)  # the server may have been restarted: a new connection helps
            if len(jobs) == 1 or not was_open:
                return [Settled(job, None, error) for job in jobs]
        return [settled for job in jobs for settled in self._settle([job])]

    def _commit(self, session: Session, jobs: list[Job]) -> list[Settled]:
        session.run("BEGIN IMMEDIATE" if session.is_sqlite else "BEGIN")
        self._trust_names(session)
        if len(jobs) == 1:
            settled = [Settled(jobs[0], jobs[0].work(session), None)]
        else:
            settled = [_attempt(session, job) for job in jobs]
        try:
            session.run("COMMIT")
        except driver_errors() as error:
            raise CommitFailed(error) from error
        return settled

    def _trust_names(self, session: Session) -> None:
        """Forget the numbers of names unless nobody else can have deleted them since: SQLite says so."""
        found = session.row("PRAGMA data_version") if session.is_sqlite else None
        if found is None or found[0] != self._version:
            session.metric_ids.clear()
        self._version = -1 if found is None else found[0]

    def _roll_back(self) -> bool:
        """Undo what is open; return whether the connection can be used again."""
        if self._session is not None:
            self._session.metric_ids.clear()
            try:
                self._session.run("ROLLBACK")
            except driver_errors():  # the connection is gone, or had no transaction: open another one
                self._forget_session()
        return self._session is not None

    def _open_session(self) -> Session:
        if self._session is None:
            self._session = self._database.open_session()
        return self._session

    def _forget_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class CommitFailed(Exception):
    """The transaction itself could not be committed: nobody knows whether it was, so nothing is repeated."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _attempt(session: Session, job: Job) -> Settled:
    session.run("SAVEPOINT job")
    try:
        result = job.work(session)
    except Exception as error:  # noqa: BLE001 - it is told to whoever asked, the others go on
        session.metric_ids.clear()
        session.run("ROLLBACK TO SAVEPOINT job")
        session.run("RELEASE SAVEPOINT job")
        return Settled(job, None, error)
    session.run("RELEASE SAVEPOINT job")
    return Settled(job, result, None)
