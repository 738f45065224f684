"""Processes of tasks that outlived who started them: found by their marks in ``/proc``, and killed.

Whatever a zygote starts carries the variable `MARK` in the environment it was born with: the process that owns the
zygote, and which of its zygotes that is. Only what has it is ever killed: a shell somebody opened in a task's folder
is safe.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

import msgspec

MARK = "MAINSPRING_LAUNCHED_BY"
_PROC = Path("/proc")
_ROUNDS = 50
_ROUND_SECONDS = 0.01
_QUIET_ROUNDS = 2
"""A process that is about to run another program shows no environment for a moment."""
_PREFIX = f"{MARK}=".encode()
_LINKS = ("cwd", "fd/1", "fd/2")


def make_mark() -> str:
    """Return what names a zygote of this process, and none of a later process with the same id."""
    pid = os.getpid()
    return f"{pid}:{_born(pid)}:{os.urandom(6).hex()}"


def end_marked(mark: str) -> int:
    """Kill all that comes from a zygote of this process, which is dead; return how many processes that were."""
    return _end(lambda process: process.mark == mark)


def end_strays(folder: Path, execution_id: str | None) -> int:
    """Kill what is left of an attempt, and of every engine of this machine that is dead; return how many that were.

    They die with their zygote or their engine, but a moment later, and what hid from its zygote may not; a task must
    not start again while its last attempt still runs.
    """
    inside, attempt = f"{folder}{os.sep}", f"MAINSPRING_EXECUTION_ID={execution_id or '-'}".encode()
    return _end(lambda process: attempt in process.variables or not _lives(process.mark) or process.is_in(inside))


class _Process(msgspec.Struct, frozen=True):
    """A process that came from a zygote."""

    path: Path
    mark: str
    variables: list[bytes]

    def is_in(self, inside: str) -> bool:
        """Say whether it stands in a folder or prints into it."""
        for link in _LINKS:
            with contextlib.suppress(OSError):
                if f"{(self.path / link).readlink()}{os.sep}".startswith(inside):
                    return True
        return False


def _end(is_stray: Callable[[_Process], bool]) -> int:
    """Kill until none is left: who is killed may have started another."""
    ended: set[str] = set()
    quiet = 0
    for _ in range(_ROUNDS):
        strays = [process.path.name for process in _marked() if is_stray(process)]
        quiet = 0 if strays else quiet + 1
        if quiet == _QUIET_ROUNDS:
            break
        ended.update(strays)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)
        sleep(_ROUND_SECONDS)
    return len(ended)


def _marked() -> Iterator[_Process]:
    for entry in os.scandir(_PROC) if _PROC.is_dir() else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        path = Path(entry.path)
        try:
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it is gone, or somebody else's
        mark = next((line for line in variables if line.startswith(_PREFIX)), None)
        if mark is not None:
            yield _Process(path, mark.removeprefix(_PREFIX).decode(errors="replace"), variables)


def _lives(mark: str) -> bool:
    pid, _, rest = mark.partition(":")
    born = rest.partition(":")[0]
    return pid.isdigit() and _born(int(pid)) == born


def _born(pid: int) -> str:
    """Return when a process started, in ticks since the machine did; empty when there is none, or it is a zombie."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
