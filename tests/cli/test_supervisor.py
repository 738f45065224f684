from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from mainspring.cli.supervisor import FIRST_DELAY, LONGEST_DELAY, Child, Supervisor, next_delay

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def until(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if true():
            return True
        sleep(0.02)
    return False


def supervise(tmp_path: Path, *children: Child) -> tuple[Supervisor, list[str]]:
    said: list[str] = []
    return Supervisor(children, log_folder=tmp_path, environment=dict(os.environ), report=said.append), said


def test_delays_double_up_to_a_limit_and_start_again_after_a_steady_run() -> None:
    delay = FIRST_DELAY
    for _ in range(20):
        delay = next_delay(delay, 0.1)
    assert delay == LONGEST_DELAY
    assert next_delay(LONGEST_DELAY, 60.0) == FIRST_DELAY


def test_a_killed_child_is_restarted_and_its_last_words_are_reported(tmp_path: Path) -> None:
    supervisor, said = supervise(
        tmp_path, Child("a", [sys.executable, "-c", "print('boom'); raise SystemExit(3)"]), Child("b", SLEEPER)
    )
    try:
        first = supervisor.pids()["b"]
        os.kill(first, signal.SIGKILL)

        def restarted() -> bool:
            supervisor.watch_once()
            return supervisor.pids()["b"] != first

        assert until(restarted)
        assert any("a ended with status 3" in line and "boom" in line for line in said)
    finally:
        supervisor.stop()
    assert not any(alive(pid) for pid in supervisor.pids().values())


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from mainspring.cli.supervisor import Child, Supervisor
        supervisor = Supervisor([Child("a", {SLEEPER!r})], log_folder=Path({str(tmp_path)!r}),
                                environment=dict(os.environ), report=print)
        print(supervisor.pids()["a"], flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    assert until(lambda: not alive(child))


@pytest.mark.parametrize(
    "code", ["import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(0)); time.sleep(60)"]
)
def test_stop_lets_a_child_finish_what_it_is_doing(tmp_path: Path, code: str) -> None:
    supervisor, said = supervise(tmp_path, Child("a", [sys.executable, "-c", code]))
    sleep(0.3)
    supervisor.stop()
    assert not said
