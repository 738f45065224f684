"""Makes an environment for a list of requirements and becomes its zygote; run as a script, with the standard library.

``python -P build_environment.py SPEC``, SPEC a JSON document: the folder of the environment, the requirements, the
indexes, the commands that make it, and the zygote to become. Each folder is built once, under a lock; it counts as
built only when the marker in it, written last, is there, so a half-built one is thrown away and built again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_MARKER = "built.json"
_POLL_SECONDS = 0.2


def main(spec: dict[str, Any]) -> None:
    """Build what is missing, then replace this process by the environment's zygote."""
    answers = os.dup(1)
    os.dup2(2, 1)
    folder = Path(spec["folder"])
    try:
        build(folder, spec)
    except (OSError, BuildFailed) as error:
        os.write(answers, json.dumps({"failed": str(error)}).encode() + b"\n")
        sys.exit(1)
    os.dup2(answers, 1)
    os.close(answers)
    os.execv(spec["zygote"][0], spec["zygote"])  # noqa: S606 - the command is the launcher's


class BuildFailed(Exception):
    """A command that makes the environment failed; the message says which and what it said."""


def build(folder: Path, spec: dict[str, Any]) -> None:
    """Build the environment unless it is there, whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _MARKER).is_file():
            return
        shutil.rmtree(folder, ignore_errors=True)
        for command in spec["commands"]:
            _execute(command, spec["requirements"])
        for name, target in spec["links"].items():
            packages = next(folder.glob("lib/python*/site-packages"))
            if not (packages / name).exists():
                (packages / name).symlink_to(target)
        aside = folder / f"{_MARKER}.part"
        aside.write_text(json.dumps({"requirements": spec["requirements"], "python": sys.version}))
        aside.replace(folder / _MARKER)


def _execute(command: list[str], requirements: list[str]) -> None:
    """Run one command; stop it when the engine that asked for it is gone."""
    parent = os.getppid()
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        said = b""
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            said += process.stdout.read() or b""
            if os.getppid() != parent:
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit(1)
        said += process.stdout.read() or b""
    sys.stderr.write(said.decode(errors="replace"))
    if process.returncode:
        wanted = ", ".join(requirements) or "nothing but Python"
        reason = " ".join(said.decode(errors="replace").split())[-1000:]
        raise BuildFailed(f"The environment for its requirements ({wanted}) could not be built: {reason}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
