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
from mainspring.pipelines import CompiledPipeline, Engine, ProcessLauncher, ir, read_compiled
from mainspring.pipelines.component import Component, lift_component

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


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ir.ContainerSpec]:
    """The containers of launcher_samples.py by function name, as the real compiler writes them."""
    target = tmp_path_factory.mktemp("launcher-samples") / "everything.yaml"
    script = str(Path(__file__).parent / "launcher_samples.py")
    subprocess.run([sys.executable, "-W", "ignore", script, str(target)], check=True, capture_output=True)
    executors = ir.read_pipeline(target.read_bytes()).deployment_spec.executors
    found = {label.removeprefix("exec-").replace("-", "_"): executor.container for label, executor in executors.items()}
    return {name: container for name, container in found.items() if container is not None}


@pytest.fixture(scope="session")
def lifted(containers: dict[str, ir.ContainerSpec]) -> dict[str, Component]:
    return {name: lift_component(container) for name, container in containers.items()}


@pytest.fixture(scope="session")
def requests(containers: dict[str, ir.ContainerSpec]) -> dict[str, dict[str, object]]:
    return {name: container.resources for name, container in containers.items()}
