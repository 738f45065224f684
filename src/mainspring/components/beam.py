"""Run an Apache Beam pipeline: a script of its own, in an interpreter that has Beam, on any of Beam's runners."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mainspring.components.artifacts import ArtifactFile
from mainspring.core import InvalidInput, NotFound, Refused, Unavailable

OptionValue = str | int | float | bool | Sequence[str | int | float] | None
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TAIL = 2_000


def run_beam_script(
    script: str,
    *,
    options: Mapping[str, OptionValue],
    log: ArtifactFile,
    runner: str = "DirectRunner",
    python: str = "",
    timeout_s: int = 3600,
) -> None:
    """Run a Beam script and wait for it; what it says goes into ``log``.

    ``python`` is the interpreter of an environment with apache-beam in it; by default this one.
    """
    command = beam_command(script, options=options, runner=runner, python=python)
    if not Path(script).is_file():
        raise NotFound(f"There is no script {script}.", hint="Name a Python file that builds and runs a pipeline.")
    require_beam(command[0])
    try:
        with Path(log.path).open("wb") as file:
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=timeout_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{script} took more than {timeout_s} s.", hint="Raise timeout_s.") from error
    log.metadata.update(runner=runner, exit_status=done.returncode)
    if done.returncode != 0:
        said = Path(log.path).read_text(errors="replace")[-_TAIL:].strip().splitlines()
        raise Refused(
            f"{script} left with status {done.returncode}: {said[-1] if said else 'it said nothing'}",
            hint=f"Read {log.path}.",
        )


def beam_command(
    script: str, *, options: Mapping[str, OptionValue], runner: str = "DirectRunner", python: str = ""
) -> list[str]:
    """Return the command line; pure.

    ``True`` is a flag, ``False`` and ``None`` leave the option out, a list repeats it.

    >>> beam_command("count.py", options={"input": "a.txt", "streaming": True}, python="python3")
    ['python3', 'count.py', '--runner=DirectRunner', '--input=a.txt', '--streaming']
    """
    for name in ("runner", *options):
        if not _OPTION.fullmatch(name):
            raise InvalidInput(f"{name[:50]!r} is no option of Beam.", hint="Name it without dashes in front.")
    if "runner" in options:
        raise InvalidInput("The runner is an option of its own.", hint="Pass runner=…")
    if script.startswith("-"):
        raise InvalidInput(f"{script[:50]!r} is no script.", hint="Name a Python file.")
    given = [text for name, value in options.items() for text in _texts(name, value)]
    return [python or sys.executable, script, f"--runner={runner}", *given]


def require_beam(python: str) -> None:
    """Raise `Unavailable` unless this interpreter has Apache Beam."""
    try:
        found = subprocess.run(  # noqa: S603 - an interpreter the pipeline's author names
            [python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('apache_beam') is None)"],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    except OSError as error:
        raise NotFound(f"There is no interpreter {python}: {error.strerror}.", hint="Check python=…") from error
    if found.returncode != 0:
        raise Unavailable(
            f"{python} has no Apache Beam.",
            hint="Install it in an environment of its own (it pins much): python -m venv beam && "
            "beam/bin/pip install apache-beam, and pass python=beam/bin/python.",
        )


def _texts(name: str, value: OptionValue) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list | tuple):
        return [f"--{name}={entry}" for entry in value]
    return [f"--{name}={value}"]
