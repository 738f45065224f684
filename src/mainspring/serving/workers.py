"""Several processes behind one socket: restarted when they die, replaced on SIGHUP, drained on SIGTERM.

The supervisor binds the socket and never accepts from it; its workers share it, so connections that wait to be
accepted outlive any of them. Each worker writes log segments of its own. The supervisor loads no model.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, sleep

from mainspring.core import Refused, Unavailable
from mainspring.serving.listeners import turn_away
from mainspring.serving.server import ServeOptions, announce, bind, deploy_folder
from mainspring.serving.sharing import fold, metrics_path, ready_path, workers_folder

_logger = logging.getLogger("mainspring.serving")
FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
STEADY_SECONDS = 10.0
_STOP_SECONDS = 9.0
_READY_SECONDS = 120.0
_TURN_SECONDS = 0.05
_HANG_SECONDS = 5.0
"""How much longer than one request may take a worker may be silent."""
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and the process that fills it."""

    place: int
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=monotonic)
    delay: float = FIRST_DELAY / 2
    restart_at: float = 0.0
    """When to start it again; 0 while it runs."""
    beat: int = 0
    """Stamp of the numbers it left last."""
    beat_at: float = 0.0
    """When, by this process's clock, that stamp was new; 0 before the first."""


def next_delay(delay: float, lived_seconds: float) -> float:
    """Return how long to wait before a restart: doubling up to a limit, back to the start after a steady run."""
    return FIRST_DELAY if lived_seconds >= STEADY_SECONDS else min(delay * 2, LONGEST_DELAY)


def supervise(options: ServeOptions, count: int, arguments: Sequence[str]) -> int:
    """Run ``count`` workers until SIGTERM or SIGINT; return the exit status."""
    if options.model is not None:
        deploy_folder(options)
    listener = bind(options)
    supervisor = _Supervisor(options, listener, arguments)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, supervisor.note)
    return supervisor.run(count)


class _Supervisor:
    def __init__(self, options: ServeOptions, listener: socket.socket, arguments: Sequence[str]) -> None:
        self._options = options
        self._listener = listener
        self._arguments = _without_workers(arguments)
        self._workers: list[_Worker] = []
        self._leaving: list[_Worker] = []
        self._is_stopping = False
        self._is_renewing = False
        shutil.rmtree(workers_folder(options.folder), ignore_errors=True)
        workers_folder(options.folder).mkdir(parents=True)

    def note(self, number: int, frame: object) -> None:
        """Take note of a signal."""
        if number == signal.SIGHUP:
            self._is_renewing = True
        else:
            self._is_stopping = True

    def run(self, count: int) -> int:
        """Start, watch, and stop."""
        self._workers = [_Worker(place, self._spawn(place)) for place in range(count)]
        try:
            self._wait_until_ready(self._workers[0])
            announce(self._listener, self._options)
            while not self._is_stopping:
                sleep(_TURN_SECONDS)
                self._tend()
                if self._is_renewing:
                    self._is_renewing = False
                    self._renew()
        finally:
            self._stop()
        return 0

    def _spawn(self, place: int) -> subprocess.Popen[bytes]:
        descriptor = self._listener.fileno()
        command = [sys.executable, "-m", "mainspring.serving", *self._arguments]
        command += ["--listener", str(descriptor), "--worker", str(place)]
        return subprocess.Popen(  # noqa: S603 (the command is ours, an argument list, no shell)
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            start_new_session=True,
            preexec_fn=partial(_die_with_parent, os.getpid()),  # noqa: PLW1509 - this process has no threads
        )

    def _wait_until_ready(self, worker: _Worker) -> None:
        """Wait for a worker to load its model; raise if it ends instead."""
        path = ready_path(self._options.folder, worker.process.pid)
        end = monotonic() + _READY_SECONDS
        while not path.exists() and not self._is_stopping:
            if worker.process.poll() is not None:
                raise Refused("The first worker ended before it was ready.", hint="Its own message is above.")
            if monotonic() > end:
                raise Unavailable(f"The first worker was not ready in {_READY_SECONDS:.0f} s.")
            sleep(0.01)

    def _tend(self) -> None:
        """Start again what ended, after a pause that grows."""
        now = monotonic()
        for worker in self._workers:
            if worker.restart_at:
                if now >= worker.restart_at:
                    worker.process, worker.started, worker.restart_at = self._spawn(worker.place), now, 0.0
                continue
            self._listen_for_beat(worker, now)
            status = worker.process.poll()
            if status is not None:
                fold(self._options.folder, worker.process.pid)
                worker.delay = next_delay(worker.delay, now - worker.started)
                worker.restart_at = now + worker.delay
                fields = {"worker": worker.place, "status": status, "restart_in": worker.delay}
                _logger.error("worker.ended", extra={"fields": fields})
        self._bury()

    def _listen_for_beat(self, worker: _Worker, now: float) -> None:
        """Kill a worker whose event loop hangs: it leaves its numbers twice a second while it lives."""
        try:
            beat = metrics_path(self._options.folder, worker.process.pid).stat().st_mtime_ns
        except FileNotFoundError:
            return
        if beat != worker.beat:
            worker.beat, worker.beat_at = beat, now
        elif now - worker.beat_at > self._options.options.limits.seconds + _HANG_SECONDS:
            _logger.error("worker.hangs", extra={"fields": {"worker": worker.place}})
            worker.process.kill()
            worker.beat_at = now

    def _renew(self) -> None:
        """Replace the workers one by one: the new one is ready before the old one is told to drain."""
        for index, old in enumerate(list(self._workers)):
            fresh = _Worker(old.place, self._spawn(old.place))
            try:
                self._wait_until_ready(fresh)
            except (Refused, Unavailable) as error:
                _logger.error("workers.not_renewed", extra={"fields": {"error": str(error)}})
                fresh.process.kill()
                fresh.process.wait()
                return
            if self._is_stopping:
                self._leaving.append(fresh)
                fresh.process.terminate()
                return
            self._workers[index] = fresh
            if old.process.poll() is None:
                old.process.terminate()
                self._leaving.append(old)
            self._bury()
        _logger.info("workers.renewed", extra={"fields": {"workers": len(self._workers)}})

    def _bury(self) -> None:
        for worker in list(self._leaving):
            if worker.process.poll() is not None:
                fold(self._options.folder, worker.process.pid)
                self._leaving.remove(worker)

    def _stop(self) -> None:
        """Drain every worker; end those that will not go in time."""
        everyone = [*self._workers, *self._leaving]
        for worker in everyone:
            if worker.process.poll() is None:
                worker.process.terminate()
        sleep(self._options.prestop_seconds)
        turn_away(self._listener)  # the workers accept for a little longer than this
        self._listener.close()
        end = monotonic() + _STOP_SECONDS
        for worker in everyone:
            try:
                worker.process.wait(max(0.05, end - monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _without_workers(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of one worker: all but their number; it is the supervisor who holds the model's name."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--workers":
            skip = True
        elif not argument.startswith("--workers="):
            kept.append(argument)
    return kept


def _die_with_parent(parent: int) -> None:
    """Ask Linux to stop this process when its parent dies; runs in the child, before its program."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we could ask
        os.kill(os.getpid(), signal.SIGTERM)
