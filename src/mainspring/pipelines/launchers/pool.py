"""Zygotes of one engine: started when they are first needed, told what to fork, and asked what ended.

A zygote is named by the command that starts it, so that tasks with the same interpreter and the same imports share
one. Launches wait here until their zygote is ready; one that dies takes its tasks with it, and they come back as lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mainspring.pipelines.launchers.interface import TaskExit, TaskUsage

_LONGEST_ERROR = 2000
_PATIENCE_SECONDS = 15.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its zygote is told it: a component's function, or a command."""

    key: str
    folder: str
    log: str
    error: str
    environment: dict[str, str]
    source: str = ""
    function: str = ""
    executor_input: str = ""
    is_notebook: bool = False
    command: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()
    """A command that ends what killing the task's process does not, such as a container."""


class ZygotePool:
    """At most ``most`` zygotes; the one that idled longest makes room for another."""

    def __init__(self, *, log: Path | None = None, most: int = 4) -> None:
        self._log = log
        self._most = most
        self._zygotes: dict[tuple[str, ...], _Zygote] = {}
        self._ended: list[TaskExit] = []

    @property
    def is_idle(self) -> bool:
        """Whether no task runs or waits."""
        return not self._ended and not any(zygote.orders for zygote in self._zygotes.values())

    def warm(self, command: tuple[str, ...]) -> bool:
        """Start a zygote unless it runs; return False when there is no room because all others are busy."""
        found = self._zygotes.get(command)
        if found is not None and found.is_alive:
            self._zygotes[command] = self._zygotes.pop(command)  # the last used is the last
            return True
        if found is None and len(self._zygotes) >= self._most:
            idle = next((name for name, zygote in self._zygotes.items() if not zygote.orders), None)
            if idle is None:
                return False
            self._zygotes.pop(idle).close()
        if found is not None:
            self._ended += found.lose("The process that runs tasks died.")
        self._zygotes[command] = _Zygote(command, self._log)
        return True

    def submit(self, command: tuple[str, ...], order: Order) -> None:
        """Have a task forked by a zygote, as soon as it is ready."""
        if not self.warm(command):
            self._zygotes[command] = _Zygote(command, self._log)
        self._zygotes[command].submit(order)

    def wait(self, timeout: float | None) -> list[TaskExit]:
        """Return the tasks that ended; wait for one at most ``timeout`` seconds."""
        deadline = None if timeout is None else time.perf_counter() + timeout
        while not self._ended:
            remaining = None if deadline is None else max(0.0, deadline - time.perf_counter())
            if not self._listen(remaining):
                break
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, key: str) -> None:
        """Kill one task with everything it started."""
        for zygote in self._zygotes.values():
            if key in zygote.orders:
                self._ended += zygote.cancel(key)

    def cancel_all(self) -> None:
        """Kill all tasks and forget them; zygotes without tasks stay warm."""
        self._ended.clear()
        for command in [command for command, zygote in self._zygotes.items() if zygote.orders]:
            self._zygotes.pop(command).close()

    def close(self) -> None:
        """End all zygotes and every task."""
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()
        self._ended.clear()

    def pids(self) -> list[int]:
        """Return the process ids of the zygotes."""
        return [zygote.pid for zygote in self._zygotes.values()]

    def missing(self) -> dict[str, str]:
        """Return the modules that could not be preloaded, and why."""
        return {name: why for zygote in self._zygotes.values() for name, why in zygote.missing.items()}

    def _listen(self, timeout: float | None) -> bool:
        """Take in what the zygotes say; return False when nothing was said in time, or nobody is there to speak."""
        speakers = {zygote.output: zygote for zygote in self._zygotes.values()}
        writers = {zygote.input: zygote for zygote in self._zygotes.values() if zygote.unsent}
        if not any(zygote.orders for zygote in self._zygotes.values()):
            return False
        readable, writable, _ = select.select([*speakers], [*writers], [], timeout)
        for descriptor in writable:
            writers[descriptor].flush()
        for descriptor in readable:
            self._ended += speakers[descriptor].hear()
        for command in [command for command, zygote in self._zygotes.items() if zygote.is_gone]:
            self._zygotes.pop(command).close()
        return bool(readable or writable)


class _Zygote:
    """One zygote: its process, what it was told and what it said."""

    def __init__(self, command: tuple[str, ...], log: Path | None) -> None:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with open(log or os.devnull, "ab") as target:  # noqa: PTH123 - os.devnull is a str
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=target, start_new_session=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.input = self._process.stdin.fileno()
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.input, False)
        self.orders: dict[str, Order] = {}
        self.missing: dict[str, str] = {}
        self.unsent = b""
        self.is_gone = False
        self._is_ready = False
        self._waiting: dict[str, Order] = {}
        self._pids: dict[str, int] = {}
        self._heard = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self.is_gone and self._process.poll() is None

    def submit(self, order: Order) -> None:
        self.orders[order.key] = order
        if self._is_ready:
            self._tell(msgspec.json.encode(order))
        else:
            self._waiting[order.key] = order

    def cancel(self, key: str) -> list[TaskExit]:
        if self._waiting.pop(key, None) is not None:
            del self.orders[key]
            return [TaskExit(key=key, status=-signal.SIGKILL, error="The task was cancelled before it started.")]
        self._tell(msgspec.json.encode({"cancel": key}))
        return []

    def flush(self) -> None:
        """Write what the pipe takes; a dead zygote is noticed when it is heard."""
        try:
            while self.unsent:
                self.unsent = self.unsent[os.write(self.input, self.unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.unsent = b""

    def hear(self) -> list[TaskExit]:
        """Read what it said; return the tasks that ended."""
        data = os.read(self.output, 1 << 16)
        if not data:
            return self.lose("The process that runs tasks died.")
        *lines, self._heard = (self._heard + data).split(b"\n")
        return [ended for line in lines for ended in self._understand(msgspec.json.decode(line))]

    def lose(self, error: str, *, lost: bool = True) -> list[TaskExit]:
        """Give up on it: all its tasks are killed and end with ``error``."""
        self.is_gone = True
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        gone = [TaskExit(key=key, status=-signal.SIGKILL, error=error, lost=lost) for key in self.orders]
        self.orders.clear()
        self._waiting.clear()
        return gone

    def close(self) -> None:
        """End it; it kills its tasks when its input ends."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.lose("")

    def _tell(self, message: bytes) -> None:
        self.unsent += message + b"\n"
        self.flush()

    def _understand(self, message: dict[str, Any]) -> Iterator[TaskExit]:
        if "ready" in message:
            self.missing, self._is_ready = message["ready"], True
            for order in self._waiting.values():
                self._tell(msgspec.json.encode(order))
            self._waiting.clear()
        elif "failed" in message:
            yield from self.lose(message["failed"][:_LONGEST_ERROR], lost=False)
        elif "pid" in message:
            self._pids[message["key"]] = message["pid"]
        else:
            yield self._exit_of(message)

    def _exit_of(self, message: dict[str, Any]) -> TaskExit:
        order = self.orders.pop(message["key"])
        self._pids.pop(order.key, None)
        return TaskExit(
            key=order.key,
            status=message["exit"],
            error=error_of(order, message["exit"]),
            usage=TaskUsage(max_rss_bytes=message["max_rss_bytes"], cpu_seconds=message["cpu_seconds"]),
        )


def error_of(order: Order, status: int) -> str:
    """Return why a task ended with a status, in a few words; empty when it ended well."""
    if status == 0:
        return ""
    path = Path(order.error)
    if path.is_file():
        return path.read_text(errors="replace")[:_LONGEST_ERROR]
    if status < 0:
        return f"The task was killed by signal {-status} ({signal.Signals(-status).name})."
    said = f" Its last words: {words}" if order.command and (words := _last_words(Path(order.log))) else ""
    return f"The task ended with status {status}.{said}"


def _last_words(log: Path) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LONGEST_ERROR))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
