"""The zygote: a warm process that has imported what tasks import, and forks one process per task.

Run as a script, by path, with the standard library only at first: ``python -P zygote.py '["numpy", …]'``. It reads
launches as JSON lines from its standard input and writes what happens as JSON lines to its standard output. When
its input ends, the engine is gone: every task is killed, with everything it started.

Every task is a process group and a subreaper: what it starts stays below it, whatever session it moves to. When it
ends, what it left behind falls to the zygote, which is a subreaper too and kills it.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLEANUP_SECONDS = 10.0
_MADV_COLLAPSE = 25
_LARGE_PAGE = 2 << 20
_FULL = 256
"""How many of the 512 pages of a range must be there for a large page to be worth its memory."""
_COMPACT_AFTER = 16
"""So many forks promise enough more to be worth a tenth of a second."""
_SHELL_VARIABLES = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "MAINSPRING_URL")
_LIBRARY = ctypes.CDLL(None)
_prctl = _LIBRARY.prctl  # looked up here, once: what a fork does by itself costs it page faults


def main(preload: list[str]) -> None:
    """Preload, then serve launches until the standard input ends."""
    out = os.dup(1)
    os.dup2(2, 1)
    wakeup, trigger = os.pipe()
    os.set_blocking(trigger, False)
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(trigger, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _forget_the_shell()
    _send(out, {"ready": _preload(preload)})
    _log_to_stdout()
    gc.collect()
    gc.freeze()
    Nursery(out, wakeup).serve()


def _forget_the_shell() -> None:
    """Drop what the shell says of where and to what to log: a task is told by its run."""
    os.environ["_KFP_RUNTIME"] = "true"
    for name in _SHELL_VARIABLES:
        os.environ.pop(name, None)


def _preload(modules: list[str]) -> dict[str, str]:
    """Import KFP's executor and what tasks will want; return what could not be imported, and why."""
    missing = {}
    for name in ["kfp.dsl.executor", *modules]:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - an import runs foreign code; the task will meet the error itself
            missing[name] = f"{type(error).__name__}: {error}"
    if "pandas" in modules and "pandas" not in missing:
        sys.modules["pandas"].DataFrame({"number": [1], "text": ["a"]})  # the first one of a process costs 20 ms
    return missing


def _log_to_stdout() -> None:
    """Let what tasks log go where they print."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)


class Nursery:
    """The tasks that run, by process id."""

    def __init__(self, out: int, wakeup: int) -> None:
        self._out = out
        self._wakeup = wakeup
        self._tasks: dict[int, dict[str, Any]] = {}
        self._cleanups: set[int] = set()
        self._forks = 0
        self._compacting: Iterator[bool] | None = _compact()
        self._wants_quiet = False

    def serve(self) -> None:
        """Obey and reap until the input ends, then leave nothing running."""
        buffer = b""
        while True:
            readable, _, _ = select.select([0, self._wakeup], [], [], 0 if self._may_compact() else None)
            if not readable:
                self._compact_further()
            if self._wakeup in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
                self._reap()
            if 0 in readable:
                data = os.read(0, 1 << 16)
                if not data:
                    self._end()
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _may_compact(self) -> bool:
        return (
            self._compacting is not None and self._forks >= _COMPACT_AFTER and not (self._wants_quiet and self._tasks)
        )

    def _compact_further(self) -> None:
        went_well = next(self._compacting, None) if self._compacting is not None else None
        self._wants_quiet = went_well is False
        if went_well is None:
            self._compacting = None

    def _obey(self, message: dict[str, Any]) -> None:
        if "cancel" in message:
            for pid, launch in self._tasks.items():
                if launch["key"] == message["cancel"]:
                    self._kill(pid, launch)
            return
        self._forks += 1
        pid = os.fork()
        if pid == 0:
            _become_task(message, self._out)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._tasks[pid] = {"key": message["key"], "cleanup": message.get("cleanup")}

    def _kill(self, pid: int, launch: dict[str, Any]) -> None:
        """Kill a task; what else it started is swept when it is reaped."""
        if launch["cleanup"]:
            with contextlib.suppress(OSError):
                self._cleanups.add(os.posix_spawnp(launch["cleanup"][0], launch["cleanup"], os.environ))
        _kill_group(pid)

    def _reap(self) -> None:
        while self._tasks or self._cleanups:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            launch = self._tasks.pop(pid, None)
            self._cleanups.discard(pid)
            if launch is None:
                continue
            _kill_group(pid)
            self._sweep()
            ended = {
                "key": launch["key"],
                "exit": os.waitstatus_to_exitcode(status),
                "max_rss_bytes": usage.ru_maxrss * 1024,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
            }
            _send(self._out, ended)

    def _sweep(self) -> None:
        """Kill what dead tasks left behind: the children of this process that are not tasks."""
        while strays := _children() - self._tasks.keys() - self._cleanups:
            for pid in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _end(self) -> None:
        signal.alarm(round(_CLEANUP_SECONDS))
        for pid, launch in self._tasks.items():
            self._kill(pid, launch)
        for pid in (*self._tasks, *self._cleanups):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._tasks.clear()
        self._cleanups.clear()
        self._sweep()


def _compact() -> Iterator[bool]:
    """Gather our memory into large pages, one a step: a fork copies what says where pages are, and then has less to.

    With pandas and scikit-learn in memory it halves the time a fork takes. A step that a fork or its end got in the way
    of yields False, and is tried once more. Linux 6.1 and later (madvise(2)); elsewhere nothing changes.
    """
    present = ctypes.create_string_buffer(_LARGE_PAGE // 4096)
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, access, *_, inode_and_name = line.split(maxsplit=4)
        first, end = (int(bound, 16) for bound in bounds.split("-"))
        if access != "rw-p" or inode_and_name.split()[1:] not in ([], ["[heap]"]):
            continue
        for start in range(-(-first // _LARGE_PAGE) * _LARGE_PAGE, end - _LARGE_PAGE + 1, _LARGE_PAGE):
            place, size = ctypes.c_void_p(start), ctypes.c_size_t(_LARGE_PAGE)
            if _LIBRARY.mincore(place, size, present) == 0 and sum(present.raw) >= _FULL:
                went_well = _LIBRARY.madvise(place, size, _MADV_COLLAPSE) == 0
                yield went_well
                if not went_well:
                    _LIBRARY.madvise(place, size, _MADV_COLLAPSE)
                    yield True


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _children() -> set[int]:
    """Return the children of this process, also those that fell to it."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (thread / "children").read_bytes().split()))
    return found


def _send(out: int, message: dict[str, Any]) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")


def _become_task(launch: dict[str, Any], out: int) -> None:
    """Turn the forked child into the task; never returns."""
    status = 1
    try:
        parent = os.getppid()
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
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
        if launch.get("command"):
            os.execvp(launch["command"][0], launch["command"])  # noqa: S606 - the launcher wrote the command
        _execute(launch)
        status = 0
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if status:
            _tell_error(launch, f"The task called sys.exit({leave.code!r}).")
    except BaseException as error:  # noqa: BLE001 - whatever the component raises is its failure
        _tell_error(launch, _describe(error))
        with contextlib.suppress(OSError, ValueError):  # its own standard error may be closed
            traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] # join the threads, run atexit: what exit would do
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a task may close what it prints to
            stream.flush()
    return status


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as worse:  # noqa: BLE001 - the component's own __str__
        return f"{type(error).__name__} (which cannot be put into words: {type(worse).__name__})"


def _tell_error(launch: dict[str, Any], error: str) -> None:
    """Write down why the task failed; on a full disk its exit status has to do."""
    with contextlib.suppress(OSError):
        Path(launch["error"]).write_text(error, errors="backslashreplace")


def _execute(launch: dict[str, Any]) -> None:
    from kfp.dsl.executor import Executor

    if launch.get("is_notebook"):
        _prepare_kernel(Path(launch["folder"]).parent / "jupyter")
    spec = importlib.util.spec_from_file_location("ephemeral_component", launch["source"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(launch["source"]).parent))
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    executor_input = json.loads(Path(launch["executor_input"]).read_bytes())
    executor = Executor(executor_input=executor_input, function_to_execute=getattr(module, launch["function"]))
    lists = executor_input["inputs"]["artifacts"]
    executor.input_artifacts |= {name: [] for name, found in lists.items() if not found["artifacts"]}  # kfp: None
    executor.execute()


def _prepare_kernel(folder: Path) -> None:
    """Let the kernel ``python3`` be this interpreter, whatever kernels the user has; keep its files with the task."""
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    document = {"argv": command, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(document))
    os.environ["JUPYTER_PATH"] = str(folder)
    os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
