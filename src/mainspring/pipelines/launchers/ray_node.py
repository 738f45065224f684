"""What runs on a node of a Ray cluster: one task, in a process of its own, in the task's folder or a copy of it."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import msgspec

from mainspring.core import Refused
from mainspring.pipelines.launchers.interface import TaskExit, TaskLaunch
from mainspring.pipelines.launchers.local import LocalLauncher

_LOOK_SECONDS = 0.1
"""Ray interrupts a worker between two looks, not while it waits."""
_DOCUMENTS = ("executor_input.json", "outputs/executor_output.json")


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended on a node, and its folder when that was a copy."""

    ended: TaskExit
    folder: bytes | None = None


def run_on_node(task: TaskLaunch, packed: bytes | None) -> NodeResult:
    """Run one task to its end; ``packed`` is its folder when the node does not share the engine's disk."""
    if packed is None:
        return NodeResult(ended=_run(task))
    copy = Path(tempfile.mkdtemp(prefix="mainspring-task-"))
    try:
        origin = Path(task.folder).parent
        unpack(packed, copy, moved=(str(origin), str(copy)))
        ended = _run(_moved(task, str(origin), str(copy)))
        shutil.rmtree(copy / "inputs", ignore_errors=True)
        return NodeResult(ended=ended, folder=pack(copy, moved=(str(copy), str(origin))))
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def pack(folder: Path, *, moved: tuple[str, str] | None = None) -> bytes:
    """Return a folder as a tar archive; ``moved`` rewrites a path in the executor's documents first."""
    _rewrite(folder, moved)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.add(folder, arcname=".")
    return target.getvalue()


def unpack(packed: bytes, folder: Path, *, moved: tuple[str, str] | None = None) -> None:
    """Write an archive's files into a folder, none outside it; ``moved`` rewrites a path in the documents after."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r") as archive:
        for member in archive:
            _check_member(member, folder.resolve())
            archive.extract(member, folder)
    _rewrite(folder, moved)


def _check_member(member: tarfile.TarInfo, folder: Path) -> None:
    """Raise `Refused` for what is no file, folder or link, or leads outside, as tarfile's "data" filter does."""
    place = folder / member.name
    leads = (place.parent if member.issym() else folder) / member.linkname if member.linkname else place
    is_plain = member.isfile() or member.isdir() or member.islnk() or member.issym()
    if not is_plain or not all(path.resolve().is_relative_to(folder) for path in (place, leads)):
        raise Refused(f"{member.name[:200]!r} in a task's folder leads outside it.", hint="Write no such links.")


@cache
def _launcher() -> LocalLauncher:
    """Return the launcher of this worker process: its zygotes stay warm from task to task and die with it."""
    return LocalLauncher(home=Path(tempfile.gettempdir()) / "mainspring-node")


def _run(task: TaskLaunch) -> TaskExit:
    launcher = _launcher()
    launcher.launch(task)
    try:
        while not (ended := launcher.wait(_LOOK_SECONDS)):
            continue
    finally:
        launcher.cancel_all()  # interrupted: the task and all it started are gone before this returns
    return ended[0]


def _moved(task: TaskLaunch, old: str, new: str) -> TaskLaunch:
    paths = {
        name: getattr(task, name).replace(old, new, 1)
        for name in ("source", "executor_input", "folder", "log", "error")
    }
    return msgspec.structs.replace(task, **paths)


def _rewrite(folder: Path, moved: tuple[str, str] | None) -> None:
    for name in _DOCUMENTS if moved else ():
        document = folder / name
        if moved and document.is_file():
            document.write_text(document.read_text().replace(f'"{moved[0]}/', f'"{moved[1]}/'))
