"""Working folders go when their run ended long ago, and nothing else ever does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mainspring.core import FixedClock
from mainspring.db import Database
from mainspring.pipelines import CompiledPipeline, Engine, clean_work
from mainspring.pipelines.retention import FAILED_FACTOR, WorkCleaner, WorkFolder, stale_folders

DAY = 86_400_000
NOW = 1_000 * DAY


def test_only_runs_that_ended_long_ago_lose_their_folders() -> None:
    """What is unfinished, unknown or young stays; what failed stays longer."""
    ages = {"done": 15, "young": 13, "canceled": 15, "failed": 15, "failed long ago": 14 * FAILED_FACTOR + 1}
    ages |= {"running": 900, "pending": 900, "unknown": 900}
    states = {
        "done": "COMPLETE", "young": "COMPLETE", "canceled": "CANCELED", "failed": "FAILED",
        "failed long ago": "FAILED", "running": "RUNNING", "pending": "PENDING",
    }  # fmt: skip
    folders = [WorkFolder(run_id=name, changed_ms=NOW - days * DAY) for name, days in ages.items()]
    assert stale_folders(folders, states, now_ms=NOW, keep_days=14) == ["done", "canceled", "failed long ago"]


def test_the_folder_of_a_run_goes_and_its_neighbours_stay(
    make_engine: Callable[..., Engine], database: Database, compiled: dict[str, CompiledPipeline], tmp_path: Path
) -> None:
    """Names that look like a run's but are none, links and the locks of engines are left alone."""
    engine, work = make_engine(database), tmp_path / "work"
    id = engine.create_run(compiled["chain"], pipeline="p", parameters={"x": 1})
    assert engine.execute(id).state == "COMPLETE"
    theirs = work / ("0" * 26)
    theirs.mkdir()
    (work / ("1" * 26)).symlink_to(tmp_path)
    for path in (work / id, *(work / id).iterdir(), theirs):
        os.utime(path, (0, 0))
    clock = FixedClock(30 * DAY)
    assert clean_work(database, work, clock, keep_days=0) == 0
    assert clean_work(database, work, clock, keep_days=14) == 1
    assert not (work / id).exists()
    assert theirs.is_dir()
    assert (work / ("1" * 26)).is_symlink()
    assert (work / "engines").is_dir()


def test_a_cleaner_that_is_asked_all_the_time_looks_once_an_hour(sqlite_database: Database, tmp_path: Path) -> None:
    """It never asks for another pass either."""
    cleaner = WorkCleaner(sqlite_database, tmp_path / "work", FixedClock(NOW), keep_days=14)
    assert [cleaner.tend() for _ in range(3)] == [False] * 3
