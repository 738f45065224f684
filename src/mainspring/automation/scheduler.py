"""The controller loop: bring what is observed to what the project wants, again and again.

Each pass looks at recorded state and the clock, and does what is due: arrivals become snapshots, finished windows
are measured, policies fire triggers, triggers become pipeline runs, versions that passed the gate become canaries,
canaries are promoted or rolled back. Nothing is remembered between passes that is not in the store, so a scheduler
that was killed simply starts again. A pass looks at one moment: for all its stages it is the same time, so that
what came in while it was under way is seen by the next pass, whole.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import msgspec

from mainspring.automation.arrivals import take_arrivals
from mainspring.automation.canaries import Rollouts, restore_deployments
from mainspring.automation.recurring import fire_schedules
from mainspring.automation.retraining import consider_retraining, decide_what_is_left
from mainspring.automation.run_queue import RunQueue
from mainspring.automation.training import Trainer
from mainspring.automation.watching import measure_due_windows
from mainspring.core import FixedClock, MainspringError, SystemClock
from mainspring.lineage import Store
from mainspring.monitoring import seal_logs
from mainspring.pipelines import WorkCleaner

log = logging.getLogger("mainspring.scheduler")

PASS_SECONDS = 0.5
SIMULATED_PASS_SECONDS = 0.003
BUSY_PASS_SECONDS = 0.05
REMIND_SECONDS = 60.0


class SchedulerState(msgspec.Struct, frozen=True):
    """The scheduler's own word on where it is: the time it has dealt with, and whether anything is still to do."""

    pid: int
    reconciled_at: int
    idle: bool


def read_state(path: Path) -> SchedulerState | None:
    """Read the scheduler's state file; None while it has not written one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SchedulerState)
    except (OSError, msgspec.DecodeError):
        return None


def write_state(path: Path, state: SchedulerState) -> None:
    """Write the state file, whole or not at all; unlike records it need not survive a power cut."""
    aside = path.with_suffix(".part")
    aside.write_bytes(msgspec.json.encode(state))
    aside.replace(path)


def run_scheduler(store: Store) -> None:
    """Run passes until SIGTERM or SIGINT; a pass that fails is logged and tried again."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    pause = PASS_SECONDS if isinstance(store.clock, SystemClock) else SIMULATED_PASS_SECONDS
    path = store.settings.home / "scheduler.json"
    last: SchedulerState | None = None
    restore_deployments(store)
    decide_what_is_left(store)
    moment = FixedClock(store.clock.now_ms())
    at_moment = replace(store, clock=moment)
    rollouts = Rollouts(at_moment)
    attempt = Attempts()
    work = store.settings.home / "work"
    cleaner = WorkCleaner(store.database, work, SystemClock(), keep_days=store.settings.values.work_days)
    with Trainer(store) as trainer, RunQueue(store) as queue:
        passed, rest = 0.0, pause
        while not stopping.wait(rest):
            now = store.clock.now_ms()
            settled = last is not None and last.idle and last.reconciled_at == now
            if settled and perf_counter() - passed < PASS_SECONDS:
                continue
            passed = perf_counter()
            moment.time_ms = now
            idle = run_pass(at_moment, trainer, rollouts, queue, cleaner, attempt)
            rest = max(pause, BUSY_PASS_SECONDS) if trainer.is_busy else pause  # leave the cores to the training
            state = SchedulerState(os.getpid(), now, idle and store.clock.now_ms() == now)
            if state != last:
                write_state(path, state)
                last = state


def run_pass(
    store: Store, trainer: Trainer, rollouts: Rollouts, queue: RunQueue, cleaner: WorkCleaner, attempt: Attempts
) -> bool:
    """Do everything that is due now; return whether nothing is left to do until time moves on.

    Each stage stands alone: a monitor that cannot be measured does not keep a rollout from going on.
    """
    stages: list[tuple[str, Callable[[], bool]]] = [
        ("arrivals", lambda: bool(take_arrivals(store))),
        *((f"monitor {name}", partial(watch, store, name)) for name in store.project.monitors),
        ("schedules", lambda: fire_schedules(store)),
        ("training", trainer.tend),
        ("queued runs", queue.tend),
        ("rollouts", rollouts.reconcile),
        ("sealing", lambda: seal_logs(store)),
        ("work folders", cleaner.tend),
    ]
    unsettled = [stage for stage, work in stages if attempt(stage, work)]
    return not unsettled


def watch(store: Store, monitor: str) -> bool:
    """Measure a monitor's windows that are due and let the policies decide on each; return whether there were any."""
    measured = False
    for window in measure_due_windows(store, monitor):
        consider_retraining(store, window)
        measured = True
    return measured


class Attempts:
    """Does stages and outlives their failures, which it reports when they begin, then once a minute, then their end.

    This is a supervision point: whatever goes wrong is logged, and the loop goes on.
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, float]] = {}

    def __call__(self, stage: str, work: Callable[[], bool]) -> bool:
        """Do one stage of a pass and return whether there may be more to do; a failed one is tried again next pass."""
        try:
            more = work()
        except MainspringError as error:
            self._tell(stage, f"code={error.code} message={error.message} hint={error.hint}")
        except Exception as error:  # noqa: BLE001 supervision point
            self._tell(stage, f"error={error!r}", error)
        else:
            if self._told.pop(stage, None):
                log.info("stage.recovered stage=%s", stage)
            return more
        return True

    def _tell(self, stage: str, text: str, error: Exception | None = None) -> None:
        before, when = self._told.get(stage, ("", 0.0))
        if text != before or perf_counter() - when >= REMIND_SECONDS:
            log.error("stage.failed stage=%s %s", stage, text, exc_info=error)
            self._told[stage] = (text, perf_counter())
