"""Fixtures of the pipelines room: pipelines compiled by KFP itself, and an engine over a real zygote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mainspring.blobs import LocalBlobs
from mainspring.core import SystemClock
from mainspring.db import Database
from mainspring.pipelines import CompiledPipeline, Engine, ProcessLauncher, read_compiled

SAMPLES = Path(__file__).parent / "samples.py"
COMPILE = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import samples
from kfp import compiler
from pathlib import Path
for name in samples.ALL:
    compiler.Compiler().compile(getattr(samples, name), f"{sys.argv[2]}/{name}.yaml")
print(json.dumps(samples.ALL))
"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CompiledPipeline]:
    """All pipelines of samples.py, compiled once by the real compiler."""
    folder = tmp_path_factory.mktemp("compiled")
    command = [sys.executable, "-c", COMPILE, str(SAMPLES.parent), str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = json.loads(output.splitlines()[-1])
    return {name: read_compiled((folder / f"{name}.yaml").read_bytes()) for name in names}


@pytest.fixture(scope="session")
def launcher() -> Iterator[ProcessLauncher]:
    """One warm zygote for all tests."""
    launcher = ProcessLauncher(preload=())
    launcher.start()
    yield launcher
    launcher.close()


@pytest.fixture
def make_engine(launcher: ProcessLauncher, blobs: LocalBlobs, tmp_path: Path) -> Callable[..., Engine]:
    def make(database: Database, **options: object) -> Engine:
        defaults = {"launcher": launcher, "work_folder": tmp_path / "work", "actor": "ann", "max_parallel": 4}
        return Engine(database, blobs, SystemClock(), **{**defaults, **options})

    return make
