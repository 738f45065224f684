"""Whether a model fits: asked before it is read, because a process that runs out of memory is simply killed."""

from __future__ import annotations

from pathlib import Path

from mainspring.core import Unavailable

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def require_memory(size: int, what: str) -> None:
    """Raise `Unavailable` if ``size`` bytes are more than the memory that is left, where that is known."""
    left = available_memory()
    if left is not None and size > left:
        raise Unavailable(
            f"{what} has {size >> 20} MB, the memory that is left is {left >> 20} MB.",
            hint="Give the endpoint more memory; what answered before goes on answering.",
        )


def available_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes this process may still use: of the machine, or of its container if that is less."""
    found = [size for size in (_of_machine(meminfo), _of_container(cgroup)) if size is not None]
    return min(found, default=None)


def _of_machine(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def _of_container(folder: Path) -> int | None:
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - used) if limit.isdigit() else None
