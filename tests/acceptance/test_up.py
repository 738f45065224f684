"""``mainspring up``: one supervised process tree."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen


def until(true: Callable[[], object], seconds: float = 30.0) -> bool:
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if true():
            return True
        sleep(0.05)
    return False


def fetch(url: str, body: object = None) -> tuple[int, bytes]:
    request = Request(url, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=5) as response:
            return response.status, response.read()
    except (URLError, OSError) as error:
        return getattr(error, "code", 0), b""


def children_of(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    home = folder / ".mainspring"
    for name in ("server.json", "endpoints/flights-delay/endpoint.json"):
        (home / name).unlink(missing_ok=True)
    config = folder / "mainspring.yaml"
    config.write_text(re.sub(r"port: \d+", "port: 0", config.read_text()))
    command = [sys.executable, "-m", "mainspring", "--project", str(folder), "--port", "0", "up"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        endpoint_file = home / "endpoints/flights-delay/endpoint.json"
        assert until(lambda: (home / "server.json").exists() and endpoint_file.exists())
        server = json.loads((home / "server.json").read_bytes())["url"]
        endpoint = json.loads(endpoint_file.read_bytes())["url"]
        assert until(lambda: fetch(f"{endpoint}/v2/health/ready")[0] == 200)
        yield process, server, endpoint
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_everything_starts_answers_and_stops_together(own_demo: Any) -> None:
    with running(own_demo.folder) as (process, server, _):
        tree = children_of(process.pid)
        assert len(tree) == 3
        assert fetch(f"{server}/health")[0] == 200
        status, page = fetch(f"{server}/")
        assert status == 200
        assert b"flights-delay" in page
    assert process.returncode == 0
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in tree), 5)


def test_a_crashed_endpoint_comes_back_and_has_lost_nothing(own_demo: Any) -> None:
    home = own_demo.folder / ".mainspring"
    with running(own_demo.folder):
        pid = json.loads((home / "endpoints/flights-delay/endpoint.json").read_bytes())["pid"]
        os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            now = json.loads((home / "endpoints/flights-delay/endpoint.json").read_bytes())
            return bool(now["pid"] != pid and fetch(f"{now['url']}/v2/health/ready")[0] == 200)

        assert until(back)
    done = subprocess.run(
        [sys.executable, "-m", "mainspring", "--project", str(own_demo.folder), "why", own_demo.prediction_id],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_page_of_the_console_has_a_json_twin(own_demo: Any) -> None:
    with running(own_demo.folder) as (_, server, _):
        for page in ("/runs", "/models", "/models/flights-delay", "/endpoints", "/endpoints/flights-delay",
                     "/monitors", "/monitors/flights-delay", "/events"):  # fmt: skip
            status, html = fetch(server + page)
            assert status == 200, page
            assert html.lstrip().lower().startswith(b"<!doctype html>"), page
            status, twin = fetch(f"{server}{page}.json")
            assert status == 200, page
            assert json.loads(twin), page
