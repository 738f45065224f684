"""Tasks in containers of docker or podman: the command line as a pure function, and the way that runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from mainspring.blobs import digest_of
from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources
from mainspring.pipelines.launchers.interface import TaskLaunch
from mainspring.pipelines.launchers.pool import Order
from mainspring.pipelines.launchers.process import zygote_command
from mainspring.pipelines.launchers.ways import MachineLauncher

_ENGINES = ("docker", "podman")
_ANSWER_SECONDS = 10
_PIP = "PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location"


class ContainerEngine(msgspec.Struct, frozen=True, kw_only=True):
    """A container engine of this machine: its program, or why there is none."""

    program: str = ""
    problem: str = ""


def find_engine(path: str | None = None) -> ContainerEngine:
    """Return the first container engine on the path that answers; else what stands in the way."""
    problems = []
    for name in _ENGINES:
        program = shutil.which(name, path=path)
        if program is None:
            continue
        problem = _ask(program)
        if not problem:
            return ContainerEngine(program=program)
        problems.append(f"{name} does not answer ({problem})")
    return ContainerEngine(problem="; ".join(problems) or "neither docker nor podman is installed")


def container_name(task: TaskLaunch) -> str:
    """Return the name of a task's container: the same for the same attempt, another for any other."""
    return f"mainspring-{digest_of(task.folder.encode()).removeprefix('sha256:')[:24]}"


def container_command(engine: str, task: TaskLaunch, *, user: str, kfp_version: str) -> tuple[str, ...]:
    """Return the command line that runs a task in a container.

    The task's folder is mounted at its own path, so that every path in the ExecutorInput means the same inside.
    The container shares the network of the machine: the tracking server may listen on loopback only.
    """
    component, root = task.component, str(Path(task.folder).parent)
    options = ["--rm", "--init", "--name", container_name(task), "--label", f"mainspring.task={task.key}"]
    options += ["--user", user, "--network", "host", "--volume", f"{root}:{root}", "--workdir", task.folder]
    options += [*_resource_options(task.resources)]
    for name, value in sorted({"HOME": task.folder, **task.environment}.items()):
        options += ["--env", f"{name}={value}"]
    if isinstance(component, PythonComponent):
        script = python_script(component, task, kfp_version=kfp_version)
        return (engine, "run", *options, "--entrypoint", "sh", component.image, "-ec", script)
    if not component.command:
        return (engine, "run", *options, component.image, *component.args)
    entry, *words = component.command
    return (engine, "run", *options, "--entrypoint", entry, component.image, *words, *component.args)


def python_script(component: PythonComponent, task: TaskLaunch, *, kfp_version: str) -> str:
    """Return the shell text that runs a Python component in its image, as its compiled command would."""
    indexes = " ".join(
        f"{option} {shlex.quote(url)}"
        for option, url in zip(
            ("--index-url", *("--extra-index-url",) * len(component.index_urls)), component.index_urls, strict=False
        )
    )
    lines = [f"{_PIP} --no-deps kfp=={kfp_version}"]
    if component.requirements:
        wanted = " ".join(shlex.quote(name) for name in component.requirements)
        lines.append(f"{_PIP} {indexes} {wanted}" if indexes else f"{_PIP} {wanted}")
    lines.append(
        f"_KFP_RUNTIME=true exec python3 -m kfp.dsl.executor_main --component_module_path {shlex.quote(task.source)}"
        f' --executor_input "$(cat {shlex.quote(task.executor_input)})"'
        f" --function_to_execute {shlex.quote(component.function)}"
    )
    return "\n".join(lines)


class ContainerWay:
    """Runs a task in its image; without an engine that answers, every task is refused."""

    enforces_requests = True

    def __init__(self, *, engine: ContainerEngine | None = None, takes_python: bool = True) -> None:
        self._engine = engine
        self._takes_python = takes_python

    def refuse(self, component: PythonComponent | ContainerComponent, resources: Resources) -> str:
        """Refuse what has no image, and everything where no container engine answers."""
        if isinstance(component, PythonComponent) and not self._takes_python:
            return "a Python component"
        if not component.image:
            return "a component without an image"
        if self._engine is None:
            self._engine = find_engine()
        if self._engine.problem:
            return f"no container engine for the image {component.image}: {self._engine.problem}"
        return ""

    def zygote(self, component: PythonComponent | ContainerComponent) -> tuple[str, ...]:
        """Return the command of the bare zygote."""
        return zygote_command(sys.executable, ())

    def order(self, task: TaskLaunch) -> Order:
        """Return the command to run, and the one that ends the container."""
        assert self._engine is not None
        program, name = self._engine.program, container_name(task)
        return Order(
            key=task.key,
            folder=task.folder,
            log=task.log,
            error=task.error,
            environment={},
            command=container_command(program, task, user=f"{os.getuid()}:{os.getgid()}", kfp_version=_kfp_version()),
            cleanup=(program, "rm", "--force", name),
        )


class ContainerLauncher(MachineLauncher):
    """Every task in a container of its image."""

    def __init__(self, *, engine: ContainerEngine | None = None, log: Path | None = None) -> None:
        super().__init__([ContainerWay(engine=engine)], log=log)


def _resource_options(resources: Resources) -> list[str]:
    options = []
    if resources.cpu:
        options += ["--cpus", f"{resources.cpu:g}"]
    if resources.memory_bytes:
        options += ["--memory", str(resources.memory_bytes)]
    if resources.accelerator_count:
        options += ["--gpus", str(resources.accelerator_count)]
    return options


def _ask(program: str) -> str:
    """Ask a container engine for its server; return what is wrong, empty when it answers."""
    try:
        answer = subprocess.run(  # noqa: S603
            [program, "version", "--format", "{{.Server.Version}}"],
            capture_output=True, stdin=subprocess.DEVNULL, timeout=_ANSWER_SECONDS, check=False, text=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = answer.stderr.strip().splitlines() or [f"status {answer.returncode}"]
    return "" if answer.returncode == 0 else lines[-1]


def _kfp_version() -> str:
    from importlib import metadata

    return metadata.version("kfp")
