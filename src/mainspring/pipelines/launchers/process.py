"""Tasks as processes of this machine, forked from a warm zygote."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import msgspec

from mainspring.core import Unavailable
from mainspring.pipelines.component import PythonComponent
from mainspring.pipelines.launchers.interface import TaskExit, TaskLaunch
from mainspring.pipelines.requirements import unmet_requirements

DEFAULT_PRELOAD = ("numpy", "polars", "lightgbm", "mlflow.pyfunc", "mainspring.components")
_ZYGOTE = Path(__file__).with_name("zygote.py")
_LONGEST_ERROR = 2000


class ProcessLauncher:
    """Starts tasks by asking a zygote to fork; starts the zygote when it is first needed, and again if it died."""

    def __init__(self, *, preload: tuple[str, ...] = DEFAULT_PRELOAD, log: Path | None = None) -> None:
        self._preload = preload
        self._log = log
        self._zygote: subprocess.Popen[bytes] | None = None
        self._running: dict[str, TaskLaunch] = {}
        self._pids: dict[str, int] = {}
        self._buffer = b""
        self.missing: dict[str, str] = {}
        """Modules the zygote could not preload, and why."""

    def start(self) -> None:
        """Start the zygote now, so that it warms up while the caller does something else."""
        if self._zygote is not None and self._zygote.poll() is None:
            return
        try:
            metadata.version("kfp")
        except metadata.PackageNotFoundError as error:
            raise Unavailable(
                "Running pipelines needs kfp, which is not installed.", hint="Run: pip install 'mainspring[pipelines]'"
            ) from error
        self._buffer = b""
        command = [sys.executable, "-P", str(_ZYGOTE), msgspec.json.encode(self._preload).decode()]
        with open(self._log or os.devnull, "ab") as log:  # noqa: PTH123 - os.devnull is a str
            self._zygote = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )

    def refuse(self, component: PythonComponent) -> str:
        """Return the requirements that are not installed, as one line; empty when all are."""
        unmet = unmet_requirements(component.requirements)
        return f"requirements that are not satisfied here: {', '.join(unmet)}" if unmet else ""

    def launch(self, task: TaskLaunch) -> None:
        """Ask the zygote to fork the task."""
        self._running[task.key] = task
        self.start()
        self._tell(msgspec.json.encode(task))

    def wait(self, timeout: float | None) -> list[TaskExit]:
        """Return the tasks that ended; wait for one at most ``timeout`` seconds."""
        deadline = None if timeout is None else time.perf_counter() + timeout
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.perf_counter())
            if self._zygote is None or self._zygote.stdout is None:
                return []
            if not select.select([self._zygote.stdout], [], [], remaining)[0]:
                return []
            data = os.read(self._zygote.stdout.fileno(), 1 << 16)
            if not data:
                return self._lose_all()
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            exits = [ended for line in lines if (ended := self._understand(line)) is not None]
            if exits:
                return exits

    def cancel_all(self) -> None:
        """Kill all running tasks and forget them."""
        if self._running:
            self.close()

    def close(self) -> None:
        """End the zygote and every task."""
        if self._zygote is not None:
            for stream in (self._zygote.stdin, self._zygote.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            try:
                self._zygote.wait(timeout=5)  # it kills its tasks when its input ends
            except subprocess.TimeoutExpired:
                self._zygote.kill()
                self._zygote.wait()
        self._zygote = None
        self._lose_all()

    def _tell(self, message: bytes) -> None:
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead zygote is noticed by wait()
            self._zygote.stdin.write(message + b"\n")
            self._zygote.stdin.flush()

    def _understand(self, line: bytes) -> TaskExit | None:
        message = msgspec.json.decode(line)
        if "ready" in message:
            self.missing = message["ready"]
            return None
        key = message["key"]
        if "pid" in message:
            self._pids[key] = message["pid"]
            return None
        task = self._running.pop(key)
        self._pids.pop(key, None)
        return TaskExit(key=key, status=message["exit"], error=_error_of(task, message["exit"]))

    def _lose_all(self) -> list[TaskExit]:
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        lost = [
            TaskExit(key=key, status=-signal.SIGKILL, error="The process that runs tasks died.", lost=True)
            for key in self._running
        ]
        self._running.clear()
        self._pids.clear()
        if self._zygote is not None:
            self._zygote.wait()
            self._zygote = None
        return lost


def _error_of(task: TaskLaunch, status: int) -> str:
    if status == 0:
        return ""
    path = Path(task.error)
    if path.is_file():
        return path.read_text(errors="replace")[:_LONGEST_ERROR]
    if status < 0:
        return f"The task was killed by signal {-status} ({signal.Signals(-status).name})."
    return f"The task ended with status {status}."
