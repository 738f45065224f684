"""When the working folders of runs go: what tasks were handed, what they left and what they printed.

Everything that counts is in the store by then, outputs included; only the logs go for good. Ages are real time, also in
a project that lives by a simulated clock: a disk fills up in real time.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import msgspec

from mainspring.core import Clock
from mainspring.db import Database
from mainspring.pipelines.records import run_states

log = logging.getLogger("mainspring.pipelines")

FAILED_FACTOR = 4
"""So many times as long is a run kept that failed: somebody may still want to know why, or retry it."""
_DAY_MS = 86_400_000
_ROUND_SECONDS = 3600.0
_ID_LENGTH = 26


class WorkFolder(msgspec.Struct, frozen=True, kw_only=True):
    """The working folder of a run, and when something was last added to it."""

    run_id: str
    changed_ms: int


def stale_folders(
    folders: Sequence[WorkFolder], states: Mapping[str, str], *, now_ms: int, keep_days: int
) -> list[str]:
    """Return the ids of the runs whose folders can go.

    A run that has not ended keeps its folder, and so does one that the store does not know: it may be anybody's.
    """
    days = {"COMPLETE": keep_days, "CANCELED": keep_days, "FAILED": keep_days * FAILED_FACTOR}
    return [
        folder.run_id
        for folder in folders
        if (kept := days.get(states.get(folder.run_id, ""))) is not None and now_ms - folder.changed_ms > kept * _DAY_MS
    ]


def clean_work(database: Database, work_folder: Path, clock: Clock, *, keep_days: int) -> int:
    """Remove the working folders of runs that ended long ago; return how many. ``clock`` is the machine's."""
    folders = list(_work_folders(work_folder))
    if not folders or keep_days <= 0:
        return 0
    with database.session() as session:
        states = run_states(session, [folder.run_id for folder in folders])
    stale = stale_folders(folders, states, now_ms=clock.now_ms(), keep_days=keep_days)
    for run_id in stale:
        shutil.rmtree(work_folder / run_id, ignore_errors=True)
    if stale:
        log.info("work.cleaned runs=%d", len(stale))
    return len(stale)


class WorkCleaner:
    """Cleans once an hour, however often it is asked."""

    def __init__(self, database: Database, work_folder: Path, clock: Clock, *, keep_days: int) -> None:
        self._database = database
        self._work_folder = work_folder
        self._clock = clock
        self._keep_days = keep_days
        self._due = 0.0

    def tend(self) -> bool:
        """Clean if an hour has passed; return False: nothing has to follow from it."""
        if perf_counter() >= self._due:
            self._due = perf_counter() + _ROUND_SECONDS
            clean_work(self._database, self._work_folder, self._clock, keep_days=self._keep_days)
        return False


def _work_folders(work_folder: Path) -> Iterator[WorkFolder]:
    if not work_folder.is_dir():
        return
    for path in work_folder.iterdir():
        if len(path.name) == _ID_LENGTH and path.is_dir() and not path.is_symlink():
            changed = max(entry.lstat().st_mtime for entry in (path, *path.iterdir()))
            yield WorkFolder(run_id=path.name, changed_ms=round(changed * 1000))
