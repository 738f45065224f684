"""The conformance suite: the same pipelines and the same expectations for every launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mainspring.core import SystemClock
from mainspring.pipelines import CompiledPipeline, Engine, Launcher, ProcessLauncher, list_tasks, read_compiled
from mainspring.pipelines.launchers import VenvLauncher
from mainspring.pipelines.launchers.ray import RayLauncher

FEATURES = Path(__file__).parent / "features"
COMPILE = """
import importlib, json, pathlib, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    importlib.import_module(file.stem)
from kfp import compiler
from parts import ALL
for name, pipeline in ALL.items():
    compiler.Compiler().compile(pipeline, f"{sys.argv[2]}/{name}.yaml")
print(json.dumps(list(ALL)))
"""
LAUNCHERS: dict[str, Callable[[Path], Launcher]] = {
    "process": lambda _folder: ProcessLauncher(),
    "venv": lambda folder: VenvLauncher(folder=folder),
}
if os.environ.get("MAINSPRING_LONG_TESTS"):
    LAUNCHERS["ray"] = lambda _folder: RayLauncher(cores=8)  # a cluster takes ten seconds to start


@pytest.fixture(scope="session")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CompiledPipeline]:
    """All pipelines of the features, compiled once by the real compiler."""
    folder = tmp_path_factory.mktemp("conformance")
    command = [sys.executable, "-c", COMPILE, str(FEATURES), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout.splitlines()[-1])
    return {name: read_compiled((folder / f"{name}.yaml").read_bytes()) for name in names}


@pytest.fixture(scope="session", params=list(LAUNCHERS))
def launcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """One launcher of each kind, warm for all tests."""
    launcher = LAUNCHERS[request.param](tmp_path_factory.mktemp(request.param))
    yield launcher
    launcher.close()


@pytest.fixture
def run(launcher, sqlite_database, blobs, tmp_path, conformance) -> Callable[..., Any]:
    """Run a pipeline; return the run and its tasks by address."""

    def run(name: str, *, max_parallel: int = 8, **parameters: Any) -> Any:
        engine = Engine(
            sqlite_database,
            blobs,
            SystemClock(),
            launcher=launcher,
            work_folder=tmp_path / "home" / "work",
            actor="ann",
            max_parallel=max_parallel,
        )
        id = engine.create_run(conformance[name], pipeline=name, parameters=parameters, use_cache=False)
        finished = engine.execute(id)
        with sqlite_database.read() as connection:
            return finished, {task.address: task for task in list_tasks(connection, id)}

    return run
