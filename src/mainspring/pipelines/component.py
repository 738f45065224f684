"""Lightweight Python components: what the long shell command in the IR says, lifted out of it.

KFP compiles a Python function to ``sh -c "<pip install …>" sh -ec "<write $0, run kfp's executor>" "<source>"``.
The source, the function's name and the list of requirements are all an engine needs to run it without a shell,
without pip and without a new interpreter.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import takewhile

import msgspec

from mainspring.blobs import digest_of
from mainspring.core import InvalidInput
from mainspring.pipelines import ir

_EXECUTOR_MODULE = "kfp.dsl.executor_main"
_OPTIONS_WITH_VALUE = {"--index-url", "--extra-index-url", "--trusted-host", "-i", "-f", "--find-links"}


class PythonComponent(msgspec.Struct, frozen=True, kw_only=True):
    """A Python function that is a component: its source text and what it needs."""

    source: str
    function: str
    image: str = ""
    requirements: tuple[str, ...] = ()
    environment: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The digest of the definition: source, function, image, requirements and environment."""
        return digest_of(msgspec.json.encode(self, order="sorted"))


def lift_component(container: ir.ContainerSpec) -> PythonComponent:
    """Lift the Python function out of a container's command; raise `InvalidInput` if there is none."""
    command = container.command
    if not any(_EXECUTOR_MODULE in part for part in command):
        raise InvalidInput(f"a container image ({container.image}) with a command of its own")
    if "--component_module_path" not in " ".join(command) or "$0" not in command[-2]:
        raise InvalidInput(f"a containerized Python component (its code is inside the image {container.image})")
    if "venv" in " ".join(command[:-1]):
        raise InvalidInput("a Python component with its own virtual environment (use_venv)")
    if "__KFP_EMBEDDED" in command[-1]:
        raise InvalidInput("a component with embedded files or a notebook")
    return PythonComponent(
        source=command[-1],
        function=_argument_after(container.args, "--function_to_execute"),
        image=container.image,
        requirements=_requirements(command[:-2]),
        environment={variable.name: variable.value for variable in container.env},
    )


def _argument_after(args: list[str], option: str) -> str:
    if option not in args[:-1]:
        raise InvalidInput(f"a Python component without {option}")
    return args[args.index(option) + 1]


def _requirements(command: list[str]) -> tuple[str, ...]:
    """Read the requirement list from the pip preamble, without KFP's own line for its executor."""
    found: list[str] = []
    for words in _pip_installs(command):
        group = _positional(words)
        if not (group and group[0].startswith("kfp==") and "--no-deps" in words):
            found += group
    return tuple(found)


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
