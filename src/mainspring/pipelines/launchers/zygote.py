"""The zygote: a warm process that has imported what tasks import, and forks one process per task.

Run as a script, by path, with the standard library only at first: ``python -P zygote.py '["numpy", …]'``. It reads
launches as JSON lines from its standard input and writes what happens as JSON lines to its standard output. When
its input ends, the engine is gone: every task is killed, with everything it started.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import io
import json
import logging
import os
import select
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def main(preload: list[str]) -> None:
    """Preload, then serve launches until the standard input ends."""
    out = os.dup(1)
    os.dup2(2, 1)
    wakeup, trigger = os.pipe()
    os.set_blocking(trigger, False)
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(trigger, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    _send(out, {"ready": _preload(preload)})
    gc.collect()
    gc.freeze()
    _serve(out, wakeup)


def _preload(modules: list[str]) -> dict[str, str]:
    """Import KFP's executor and what tasks will want; return what could not be imported, and why."""
    os.environ["_KFP_RUNTIME"] = "true"
    missing = {}
    for name in ["kfp.dsl.executor", *modules]:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - an import runs foreign code; the task will meet the error itself
            missing[name] = f"{type(error).__name__}: {error}"
    return missing


def _serve(out: int, wakeup: int) -> None:
    children: dict[int, str] = {}
    buffer = b""
    while True:
        readable, _, _ = select.select([0, wakeup], [], [])
        if wakeup in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 4096)
            _reap(out, children)
        if 0 in readable:
            data = os.read(0, 1 << 16)
            if not data:
                _kill(children)
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                _obey(json.loads(line), out, children)


def _obey(message: dict[str, Any], out: int, children: dict[int, str]) -> None:
    if "cancel" in message:
        _kill({pid: key for pid, key in children.items() if key == message["cancel"]})
        return
    pid = os.fork()
    if pid == 0:
        _become_task(message, out)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    children[pid] = message["key"]
    _send(out, {"key": message["key"], "pid": pid})


def _reap(out: int, children: dict[int, str]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        key = children.pop(pid, None)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # what the task left running
        if key is not None:
            _send(out, {"key": key, "exit": os.waitstatus_to_exitcode(status)})


def _kill(children: dict[int, str]) -> None:
    for pid in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _send(out: int, message: dict[str, Any]) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")


def _become_task(launch: dict[str, Any], out: int) -> None:
    """Turn the forked child into the task; never returns."""
    status = 1
    try:
        parent = os.getppid()
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _redirect(launch["log"], out)
        os.environ.update(launch["environment"])
        os.chdir(launch["folder"])
        status = _run(launch)
    finally:
        os._exit(status)


def _redirect(log: str, out: int) -> None:
    os.close(out)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(null)
    os.close(descriptor)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _run(launch: dict[str, Any]) -> int:
    """Execute the component and leave as an interpreter would; return the exit status."""
    status = 1
    try:
        _execute(launch)
        status = 0
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if status:
            Path(launch["error"]).write_text(f"The task called sys.exit({leave.code!r}).")
    except BaseException as error:  # noqa: BLE001 - whatever the component raises is its failure
        traceback.print_exc()
        Path(launch["error"]).write_text(f"{type(error).__name__}: {error}")
    threading._shutdown()  # type: ignore[attr-defined] # join the threads, run atexit: what exit would do
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _execute(launch: dict[str, Any]) -> None:
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    from kfp.dsl.executor import Executor

    spec = importlib.util.spec_from_file_location("ephemeral_component", launch["source"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(launch["source"]).parent))
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    executor_input = json.loads(Path(launch["executor_input"]).read_bytes())
    Executor(executor_input=executor_input, function_to_execute=getattr(module, launch["function"])).execute()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
