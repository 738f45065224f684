"""What this machine can run: in the engine's interpreter, else in an environment of its own, else in a container."""

from __future__ import annotations

from pathlib import Path

from mainspring.pipelines.launchers.container import ContainerEngine, ContainerWay
from mainspring.pipelines.launchers.process import ProcessWay
from mainspring.pipelines.launchers.venv import VenvWay
from mainspring.pipelines.launchers.ways import MachineLauncher


class LocalLauncher(MachineLauncher):
    """Each task in the quickest way that can run it: ``process``, then ``venv``, then ``container``."""

    def __init__(self, *, home: Path, log: Path | None = None, engine: ContainerEngine | None = None) -> None:
        in_container = ContainerWay(engine=engine, takes_python=False)
        super().__init__([ProcessWay(), VenvWay(home / "environments"), in_container], log=log)
