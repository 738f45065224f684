"""The demo's project folder: an ordinary project, copied where the person wants it."""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
from importlib import resources
from pathlib import Path

from mainspring.core import Conflict
from mainspring.core.project import FILE_NAME

_MARKER = "# The whole loop in one file"


def make_project(folder: Path) -> Path:
    """Write the demo project to ``folder``, replacing what an earlier demo left there and nothing else."""
    existing = folder / FILE_NAME
    if folder.exists() and any(folder.iterdir()):
        if not existing.is_file() or not existing.read_text().startswith(_MARKER):
            raise Conflict(
                f"{folder} is not empty and holds no earlier demo.", hint="Pass another folder: mainspring demo DIR"
            )
        _refuse_if_up(folder)
        for name in (".mainspring", "incoming"):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    source = resources.files("mainspring.demo") / "project"
    for name in (FILE_NAME, "pipeline.py"):
        text = (source / name).read_text()
        (folder / name).write_text(text.replace("port: 8080", f"port: {free_port(8080)}"))
    (folder / "incoming").mkdir()
    (folder / ".gitignore").write_text(".mainspring/\nincoming/\n")
    _commit(folder)
    return folder


def _refuse_if_up(folder: Path) -> None:
    lock = folder / ".mainspring" / "up.lock"
    if not lock.is_file():
        return
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"mainspring is up in {folder}.", hint="Stop it first: Ctrl-C.") from error


def _commit(folder: Path) -> None:
    """Keep the project in a git repository of its own, where there is git, so that runs know their commit."""
    git = shutil.which("git")
    if git is None:
        return
    author = ("-c", "user.name=mainspring demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
    steps = (
        ("init", "--quiet"),
        ("add", "--all"),
        (*author, "commit", "--quiet", "--allow-empty", "-m", "The demo project"),
    )
    for step in steps:
        subprocess.run([git, *step], cwd=folder, check=False, capture_output=True)  # noqa: S603


def free_port(wanted: int) -> int:
    """Return ``wanted`` if nothing listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Conflict("No port is free on 127.0.0.1.")
