"""One process tree: start the children, restart the one that crashes, stop them all together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
STEADY_SECONDS = 10.0
STOP_SECONDS = 12.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running."""

    name: str
    command: Sequence[str]


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    started: float
    delay: float = FIRST_DELAY
    restart_at: float | None = None
    restarts: int = field(default=0)


def next_delay(delay: float, lived_seconds: float) -> float:
    """Return how long to wait before a restart: doubling up to a limit, back to the start after a steady run."""
    return FIRST_DELAY if lived_seconds >= STEADY_SECONDS else min(delay * 2, LONGEST_DELAY)


class Supervisor:
    """Keeps children alive until it is told to stop; if it dies itself, the kernel stops them."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        log_folder: Path,
        environment: Mapping[str, str],
        report: Callable[[str], None],
    ) -> None:
        self._log_folder = log_folder
        self._environment = dict(environment)
        self._report = report
        self._stopping = threading.Event()
        log_folder.mkdir(parents=True, exist_ok=True)
        self._running = [_Running(child, self._spawn(child), monotonic()) for child in children]

    def pids(self) -> dict[str, int]:
        """Return the process id of each child."""
        return {running.child.name: running.process.pid for running in self._running}

    def request_stop(self) -> None:
        """Make `watch` return; safe to call from a signal handler."""
        self._stopping.set()

    def watch(self) -> None:
        """Restart children that end, until a stop is requested."""
        while not self._stopping.wait(0.1):
            self.watch_once()

    def watch_once(self) -> None:
        """Look at every child once, and restart those whose time has come."""
        for running in self._running:
            self._tend(running)

    def stop(self) -> None:
        """Ask every child to finish what it is doing, wait for them, and end those that will not go."""
        self._stopping.set()
        for running in self._running:
            if running.process.poll() is None:
                running.process.terminate()
        deadline = monotonic() + STOP_SECONDS
        for running in self._running:
            try:
                running.process.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                self._report(f"{running.child.name} did not stop in {STOP_SECONDS:.0f} s and was killed")
                running.process.kill()
                running.process.wait()

    def log_path(self, name: str) -> Path:
        """Return the path of a child's log."""
        return self._log_folder / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """Return the last line a child logged."""
        path = self.log_path(name)
        lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
        return lines[-1] if lines else ""

    def _tend(self, running: _Running) -> None:
        if running.restart_at is not None:
            if monotonic() >= running.restart_at:
                running.process, running.started, running.restart_at = self._spawn(running.child), monotonic(), None
                running.restarts += 1
            return
        status = running.process.poll()
        if status is None:
            return
        running.delay = next_delay(running.delay, monotonic() - running.started)
        running.restart_at = monotonic() + running.delay
        why = self.log_tail(running.child.name)
        self._report(f"{running.child.name} ended with status {status}, restarting in {running.delay:.1f} s ({why})")

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        with self.log_path(child.name).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 (the command is ours, an argument list, no shell)
                list(child.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=partial(_die_with_parent, os.getpid()),
            )


def _die_with_parent(parent: int) -> None:
    """Ask Linux to stop this process when its parent dies; runs in the child, before its program."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we could ask
        os.kill(os.getpid(), signal.SIGTERM)
