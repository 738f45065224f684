"""Tasks in virtual environments of their own, one per set of requirements, built once and kept."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import msgspec

from mainspring.blobs import digest_of
from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources
from mainspring.pipelines.launchers.interface import TaskLaunch
from mainspring.pipelines.launchers.pool import Order
from mainspring.pipelines.launchers.preload import preload_of
from mainspring.pipelines.launchers.process import function_order, require_kfp, zygote_command
from mainspring.pipelines.launchers.ways import MachineLauncher

_UV_INSTALL = ("pip", "install", "--quiet", "--link-mode", "copy", "--python")  # a link would lead into uv's cache
_BUILD = Path(__file__).with_name("build_environment.py")


class BuildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How an environment is made; the script `build_environment` follows it."""

    folder: str
    requirements: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    links: dict[str, str]
    """Packages that are the engine's own, by name: KFP's executor, which needs nothing but Python."""
    zygote: tuple[str, ...]


class VenvWay:
    """Forks a Python component from a zygote in an environment with its requirements and nothing else."""

    enforces_requests = False

    def __init__(self, folder: Path, *, uv: str | None = None) -> None:
        self._folder = folder.absolute()
        self._uv = find_uv() if uv is None else uv
        self._chosen: dict[str, tuple[str, ...]] = {}

    def refuse(self, component: PythonComponent | ContainerComponent, resources: Resources) -> str:
        """Refuse containers; whether requirements can be met is seen when the environment is built."""
        if isinstance(component, ContainerComponent):
            return f"a container image ({component.image}) with a command of its own needs a container engine"
        require_kfp()
        return ""

    def zygote(self, component: PythonComponent | ContainerComponent) -> tuple[str, ...]:
        """Return the command that builds the environment if need be and becomes its zygote."""
        assert isinstance(component, PythonComponent)
        digest = component.digest
        if digest not in self._chosen:
            spec = build_spec(self._folder, component, uv=self._uv)
            self._chosen[digest] = (sys.executable, "-P", str(_BUILD), msgspec.json.encode(spec).decode())
        return self._chosen[digest]

    def order(self, task: TaskLaunch) -> Order:
        """Return the function to run."""
        return function_order(task)


class VenvLauncher(MachineLauncher):
    """Every Python task in an environment with its requirements; environments are kept below ``folder``."""

    def __init__(self, *, folder: Path, log: Path | None = None) -> None:
        super().__init__([VenvWay(folder)], log=log)


def environment_key(component: PythonComponent) -> str:
    """Return the name of the environment: the same for the same requirements, indexes and Python."""
    document = [
        sorted(component.requirements),
        component.index_urls,
        sys.implementation.cache_tag,
        platform.python_version(),
        platform.machine(),
    ]
    return digest_of(msgspec.json.encode(document)).removeprefix("sha256:")[:32]


def build_spec(folder: Path, component: PythonComponent, *, uv: str) -> BuildSpec:
    """Return how the environment of a component is made, with uv when there is one, else with venv and pip."""
    home = folder / environment_key(component)
    python = str(home / "bin" / "python")
    install = (uv, *_UV_INSTALL, python) if uv else (python, "-m", "pip", "install", "-q")
    make = (uv, "venv", "--quiet", "--python", sys.executable) if uv else (sys.executable, "-m", "venv")
    commands = [(*make, str(home))]
    requirements = tuple(sorted(component.requirements))
    if requirements:
        commands.append((*install, *_index_options(component.index_urls), *requirements))
    links = {} if find_kfp() is None else {"kfp": str(find_kfp())}
    return BuildSpec(
        folder=str(home),
        requirements=requirements,
        commands=tuple(commands),
        links=links,
        zygote=zygote_command(python, preload_of(component.source) if requirements else ()),
    )


def find_uv() -> str:
    """Return the path of uv, beside this interpreter or on the path; empty when there is none."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else shutil.which("uv") or ""


def find_kfp() -> str | None:
    """Return the folder of the installed kfp package."""
    spec = importlib.util.find_spec("kfp")
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else None


def _index_options(urls: tuple[str, ...]) -> tuple[str, ...]:
    main, *extra = urls or ("",)
    options = ("--index-url", main) if main else ()
    return (*options, *(word for url in extra for word in ("--extra-index-url", url)))
