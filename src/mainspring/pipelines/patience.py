"""A store that may go away for a while: whoever begins a transaction waits until it is back.

Only PostgreSQL, which is somebody else's process, is waited for; a SQLite file does not restart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from time import perf_counter, sleep
from typing import Protocol

from mainspring.db import Database, Session, driver_errors

log = logging.getLogger("mainspring.pipelines")

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.25
_OUTAGES = frozenset({"OperationalError", "AdminShutdown", "CrashShutdown", "CannotConnectNow"})
"""What psycopg, an extra, calls the loss of a connection."""


class Store(Protocol):
    """Transactions, as `mainspring.db.Database` gives them."""

    def session(self) -> AbstractContextManager[Session]:
        """Open a transaction for reading."""
        ...

    def write_session(self) -> AbstractContextManager[Session]:
        """Open a transaction that commits at the end of the block."""
        ...


class PatientStore:
    """Begins transactions as soon as the database answers; what fails later in one is not tried again."""

    def __init__(self, database: Database, *, patience_s: float = _PATIENCE_SECONDS) -> None:
        self._database = database
        self._patience_s = patience_s

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction for reading."""
        with ExitStack() as stack:
            yield self._enter(stack, self._database.session)

    @contextmanager
    def write_session(self) -> Iterator[Session]:
        """Open a transaction that commits at the end of the block."""
        with ExitStack() as stack:
            yield self._enter(stack, self._database.write_session)

    def _enter(self, stack: ExitStack, begin: Begin) -> Session:
        deadline, waits = perf_counter() + self._patience_s, False
        while True:
            try:
                return stack.enter_context(begin())
            except driver_errors() as error:
                if perf_counter() > deadline:
                    raise
                if not waits:
                    waits = True
                    log.warning("store.away error=%s", error)
            sleep(_PAUSE_SECONDS)


class Begin(Protocol):
    """Opens a transaction."""

    def __call__(self) -> AbstractContextManager[Session]:
        """Return the transaction, which begins when it is entered."""
        ...


def came_back(store: Store, error: Exception) -> bool:
    """Wait until a store that went away in the middle of a transaction answers; return False if it was not that."""
    if not isinstance(store, PatientStore) or type(error).__name__ not in _OUTAGES:
        return False
    log.warning("store.went_away error=%s", error)
    try:
        with store.session():
            return True
    except driver_errors():
        return False


def patient(database: Database) -> Store:
    """Return the database as a store that is waited for when it goes away."""
    return database if database.dialect == "sqlite" else PatientStore(database)
