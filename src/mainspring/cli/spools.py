"""Take in what programs spooled while no server was there, beside whatever starts now."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainspring.lineage import Store

log = logging.getLogger("mainspring.spools")
STOP_SECONDS = 5.0


@contextmanager
def absorbing_spools(store: Store) -> Iterator[None]:
    """Take in the spools of the project in a thread, while the block runs; a failure is logged once."""
    thread = Thread(target=_absorb, args=(store,), name="spools", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(STOP_SECONDS)


def _absorb(store: Store) -> None:
    from mainspring.client import SPOOL_FOLDER, find_spools

    try:
        if next(find_spools(store.settings.home / SPOOL_FOLDER), None) is None:
            return
        from mainspring.exchange import absorb_spools  # imports every room: only if there is something to take in

        taken = absorb_spools(store)
    except Exception:  # a supervision point: the spools stay where they are, the next start tries again
        log.exception("spools.absorb.failed")
        return
    log.info("spools.absorbed spools=%d records=%d refused=%d", taken.spools, taken.records, taken.refused)
