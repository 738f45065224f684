"""Components: what the containers in the IR are, with Python functions lifted out of their shell commands.

KFP compiles a Python function to ``sh -c "<pip install …>" sh -ec "<write $0, run kfp's executor>" "<source>"``.
The source, the function's name and the list of requirements are all an engine needs to run it without a shell,
without pip and without a new interpreter. Any other command stays a container's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

import msgspec

from mainspring.blobs import digest_of
from mainspring.core import InvalidInput, Json
from mainspring.pipelines import ir
from mainspring.pipelines.dialect import is_old, translate_source

_EXECUTOR_MODULE = re.compile(r"kfp\.(?:v2\.)?(?:components|dsl)\.executor_main")
"""KFP's executor, under the names it had in its versions 1.8 to 2."""
_OPTIONS_WITH_VALUE = {"--index-url", "--extra-index-url", "--trusted-host", "-i", "-f", "--find-links"}
_ARCHIVE = "__KFP_EMBEDDED_ARCHIVE"
_NOTEBOOK = "__KFP_NOTEBOOK_REL_PATH"
_NOTEBOOK_RUNNER = {
    "nbclient>=0.10,<1": "nbclient>=0.10",
    "ipykernel>=6,<7": "ipykernel>=6",
    "jupyter_client>=7,<9": "jupyter_client>=7",
}
"""What KFP itself asks for to run a notebook, and what it takes: newer ones than KFP knew do as well."""
_SUFFIXES: dict[str, float] = {
    **{letter: 1000**power for power, letter in enumerate("kMGTPE", start=1)},
    "K": 1000,
    **{f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)},
}


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a task asks of the machine it runs on; zero and empty mean nothing in particular."""

    cpu: float = 0.0
    """Cores."""
    memory_bytes: int = 0
    accelerator_type: str = ""
    accelerator_count: int = 0

    @property
    def beside_cores(self) -> str:
        """What is asked for that is not cores, in words; empty for nothing."""
        megabytes, rest = divmod(self.memory_bytes, 1000**2)
        amount = f"{self.memory_bytes / 1024**2:g} MiB" if rest else f"{megabytes} MB"
        memory = f"its memory limit of {amount}" if self.memory_bytes else ""
        kind = self.accelerator_type or "accelerators"
        devices = f"its request for {self.accelerator_count} {kind}" if self.accelerator_count else ""
        return " and ".join(part for part in (memory, devices) if part)


class PythonComponent(msgspec.Struct, frozen=True, kw_only=True, tag="python"):
    """A Python function that is a component: its source text and what it needs."""

    source: str
    function: str
    image: str = ""
    requirements: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    index_urls: tuple[str, ...] = ()
    """Package indexes the author named, the main one first."""
    uses_venv: bool = False
    """The author wants it in a virtual environment of its own."""
    has_embedded_files: bool = False
    """The source carries an archive that it unpacks when it is imported."""
    is_notebook: bool = False

    @property
    def name(self) -> str:
        """What it is called in records."""
        return self.function

    @property
    def digest(self) -> str:
        """The digest of the definition: source, function, image, requirements and environment."""
        return digest_of(msgspec.json.encode(self, order="sorted"))


class ContainerComponent(msgspec.Struct, frozen=True, kw_only=True, tag="container"):
    """An image and the command in it; both may hold placeholders until the task is launched."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    environment: dict[str, str] = {}

    @property
    def name(self) -> str:
        """What it is called in records."""
        return self.image

    @property
    def digest(self) -> str:
        """The digest of the definition: image, command, arguments and environment."""
        return digest_of(msgspec.json.encode(self, order="sorted"))


Component = PythonComponent | ContainerComponent


def lift_component(container: ir.ContainerSpec) -> Component:
    """Lift the Python function out of a container's command; what holds none is a container of its own."""
    environment = {variable.name: variable.value for variable in container.env}
    if not _holds_source(container.command):
        return ContainerComponent(
            image=container.image,
            command=tuple(container.command),
            args=tuple(container.args),
            environment=environment,
        )
    source, preamble = container.command[-1], container.command[:-2]
    installs = list(_pip_installs(preamble))
    function = _argument_after(container.args, "--function_to_execute")
    return PythonComponent(
        source=translate_source(source, function) if is_old(container.command) else source,
        function=function,
        image=container.image,
        requirements=tuple(_NOTEBOOK_RUNNER.get(name, name) for words in installs for name in _requirements(words)),
        environment=environment,
        index_urls=tuple(dict.fromkeys(url for words in installs for url in _index_urls(words))),
        uses_venv=any("-m venv" in part for part in preamble),
        has_embedded_files=_ARCHIVE in source,
        is_notebook=_NOTEBOOK in source,
    )


def read_resources(requests: Mapping[str, Any]) -> Resources:
    """Read the resource requests of a container, placeholders filled; raise `InvalidInput` that names the value.

    The limit is what counts; without one, the request. ``cpu`` is in cores (``500m`` is half a core), memory in
    bytes with Kubernetes' suffixes (``512Mi``, ``2G``).
    """
    accelerator = requests.get("accelerator") or {}
    count = accelerator.get("resourceCount") or accelerator.get("count") or 0
    memory = _first(requests, "resourceMemoryLimit", "resourceMemoryRequest")
    gigabytes = _first(requests, "memoryLimit", "memoryRequest")
    return Resources(
        cpu=_cores(_first(requests, "resourceCpuLimit", "cpuLimit", "resourceCpuRequest", "cpuRequest")),
        memory_bytes=round(_quantity(memory) if memory else _quantity(gigabytes) * 1000**3),
        accelerator_type=str(accelerator.get("resourceType") or accelerator.get("type") or ""),
        accelerator_count=round(_quantity(count)),
    )


def _holds_source(command: list[str]) -> bool:
    if len(command) < 2 or not any(_EXECUTOR_MODULE.search(part) for part in command):
        return False
    return "--component_module_path" in " ".join(command) and "$0" in command[-2]


def _argument_after(args: list[str], option: str) -> str:
    if option not in args[:-1]:
        raise InvalidInput(f"a Python component without {option}")
    return args[args.index(option) + 1]


def _requirements(words: list[str]) -> list[str]:
    """Return what one ``pip install`` asks for, without KFP's own line for its executor, which is here already.

    The compiler writes it as a line of its own, before version 2.1 behind what the component itself asks for.
    """
    group = _positional(words)
    if group and group[0].startswith("kfp==") and "--no-deps" in words:
        return []
    return group[:-1] if group and group[-1].startswith("kfp==") else group


def _index_urls(words: list[str]) -> list[str]:
    options = ("--index-url", "-i", "--extra-index-url")
    return [words[place + 1] for place, word in enumerate(words[:-1]) if word in options]


def _pip_installs(command: list[str]) -> Iterator[list[str]]:
    """Iterate over the arguments of each ``pip install`` in the shell text."""
    for text in command:
        if "pip install" not in text:
            continue
        lexer = shlex.shlex(text, posix=True, punctuation_chars="&;|()")
        lexer.whitespace_split, lexer.commenters = True, ""
        words = list(lexer)
        for place in range(1, len(words)):
            if words[place - 1 : place + 1] == ["pip", "install"]:
                yield list(takewhile(lambda word: not set(word) <= set("&;|()"), words[place + 1 :]))


def _positional(words: list[str]) -> list[str]:
    found, skip = [], False
    for word in words:
        if not skip and not word.startswith("-"):
            found.append(word)
        skip = word in _OPTIONS_WITH_VALUE
    return found


def _first(requests: Mapping[str, Any], *names: str) -> Json:
    return next((requests[name] for name in names if requests.get(name)), 0)


def _cores(value: Json) -> float:
    text = str(value)
    return _quantity(text.removesuffix("m")) / 1000 if text.endswith("m") else _quantity(value)


def _quantity(value: Json) -> float:
    """Read a Kubernetes quantity."""
    text = str(value).strip()
    suffix = next((end for end in (text[-2:], text[-1:]) if end in _SUFFIXES), "")
    try:
        number: float = float(text.removesuffix(suffix)) * _SUFFIXES.get(suffix, 1)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InvalidInput(f"{text!r} is not an amount of a resource.", hint="Write 0.5, 500m, 2G or 512Mi.")
    return number
