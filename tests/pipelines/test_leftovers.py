"""What a task logged before it was killed arrives: its engine sends what it left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mainspring.client import Client
from mainspring.core.settings import resolve_settings
from mainspring.db import Database
from mainspring.pipelines import CompiledPipeline, Engine, task_environment
from mainspring.pipelines.leftovers import send_leftovers

SERVER = """
import sys
from pathlib import Path
from mainspring.api import run_server
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import open_store
settings = resolve_settings(Path(sys.argv[1]), flags={"port": 0, "actor": "tester"})
store = open_store(settings, Project(project="test"))
run_server(store)
store.close()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server in a process of its own; its address."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)])
    state, deadline = tmp_path / ".mainspring" / "server.json", time.monotonic() + 60
    while not state.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield json.loads(state.read_bytes())["url"]
    process.kill()
    process.wait()


def test_what_a_killed_task_logged_arrives(
    server: str,
    make_engine: Callable[..., Engine],
    sqlite_database: Database,
    compiled: dict[str, CompiledPipeline],
    tmp_path: Path,
) -> None:
    """Every value whose call returned is there, and the run it belongs to ends as killed."""
    variables = task_environment(resolve_settings(tmp_path), tracking_url=server)
    engine = make_engine(sqlite_database, task_environment={name: value for name, value in variables.items() if value})
    id = engine.create_run(compiled["logging_and_dying"], pipeline="p", parameters={})
    run = engine.execute(id)
    assert "SIGKILL" in run.error
    with Client(server) as reader:
        (found,) = reader.runs("dying")
        history = reader.metric_history(found.id, "loss")
    assert [point.step for point in history] == list(range(20))
    assert found.status == "KILLED"
    assert not list((tmp_path / ".mainspring" / "spool").glob("*.spool"))


def test_a_server_that_is_gone_does_not_hold_an_engine_up(tmp_path: Path) -> None:
    """What cannot be sent stays where it is."""
    spool = tmp_path / "spool" / "r.1.spool"
    spool.parent.mkdir()
    spool.write_bytes(b"not a spool")
    began = time.perf_counter()
    send_leftovers({"MAINSPRING_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert time.perf_counter() - began < 5
    assert spool.exists()
