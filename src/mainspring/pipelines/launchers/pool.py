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
from mainspring.pipelines.strays import MARK, end_marked, make_mark

_LONGEST_ERROR = 2000
_PATIENCE_SECONDS = 15.0
_CANCEL_SECONDS = 10.0
_DEFAULTS = {"OMP_WAIT_POLICY": "passive"}
"""Threads of OpenMP that wait for each other sleep: where tasks share the cores, spinning takes ten times as long."""


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
        for zygote in self._zygotes.values():
            if zygote.hangs:
                self._ended += zygote.lose("The process that runs tasks hung.")
        for command in [command for command, zygote in self._zygotes.items() if zygote.is_gone]:
            self._zygotes.pop(command).close()
        return bool(readable or writable)


class _Zygote:
    """One zygote: its process, what it was told and what it said."""

    def __init__(self, command: tuple[str, ...], log: Path | None) -> None:
        self._mark = make_mark()
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with open(log or os.devnull, "ab") as target:  # noqa: PTH123 - os.devnull is a str
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=target, start_new_session=True,
                env={**_DEFAULTS, **os.environ, MARK: self._mark},
            )  # fmt: skip
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
        self._heard = b""
        self._cancels: dict[str, float] = {}

    @property
    def hangs(self) -> bool:
        """Whether it was told to kill a task and does not: somebody has stopped it."""
        return any(time.perf_counter() - told > _CANCEL_SECONDS for told in self._cancels.values())

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
        self._cancels.setdefault(key, time.perf_counter())
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
        """Give up on it: it is killed with all that came from it, and its tasks end with ``error``."""
        self.is_gone = True
        end_marked(self._mark)
        gone = [TaskExit(key=key, status=-signal.SIGKILL, error=error, lost=lost) for key in self.orders]
        self.orders.clear()
        self._waiting.clear()
        self._cancels.clear()
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
        if self._process.returncode:
            end_marked(self._mark)  # it may have left something behind
        self.is_gone = True
        self.orders.clear()
        self._waiting.clear()

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
        else:
            yield self._exit_of(message)

    def _exit_of(self, message: dict[str, Any]) -> TaskExit:
        order = self.orders.pop(message["key"])
        self._cancels.pop(order.key, None)
        return TaskExit(
            key=order.key,
            status=message["exit"],
            error=error_of(order, message["exit"]),
            usage=TaskUsage(max_rss_bytes=message["max_rss_bytes"], cpu_seconds=message["cpu_seconds"]),
        )


def error_of(order: Order, status: int) -> str:
    """Return why a task ended with a status, in a few words without zeros; empty only when it ended well."""
    return _why(order, status).replace("\0", "\N{SYMBOL FOR NULL}") if status else ""


def _why(order: Order, status: int) -> str:
    path = Path(order.error)
    is_told = path.is_file()
    if is_told and (told := path.read_text(errors="replace")[:_LONGEST_ERROR]):
        return told
    if status < 0:
        return f"The task was killed by signal {-status} ({_name_of(-status)})."
    said = f" Its last words: {words}" if (words := _last_words(Path(order.log))) else ""
    full = " It could not write down why: is the disk full?" if is_told else ""
    return f"The task ended with status {status}.{full}{said}"


def _name_of(number: int) -> str:
    known = {int(each): each.name for each in signal.Signals}
    return known.get(number, f"SIGRTMIN+{number - signal.SIGRTMIN}")


def _last_words(log: Path) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LONGEST_ERROR))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
