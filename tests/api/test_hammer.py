"""Eight client processes on one server: no error, exact counts, and nothing acknowledged is lost when it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"
CLIENT = Path(__file__).with_name("hammer.py")
PROCESSES = 8


class Hammer:
    """The client processes, and what they were told."""

    def __init__(self, server, folder: Path) -> None:
        self._server, self._stop = server, folder / "stop"
        self.shared = server.new_run()
        self.runs = [server.new_run() for _ in range(PROCESSES)]
        self._processes = [
            subprocess.Popen(
                [sys.executable, CLIENT, server.state, run, self.shared, str(number), self._stop],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for number, run in enumerate(self.runs)
        ]  # fmt: skip

    def finish(self) -> list[int]:
        """Stop the clients and return how many steps each was acknowledged."""
        self._stop.touch()
        found = [process.communicate(timeout=60) for process in self._processes]
        assert [process.returncode for process in self._processes] == [0] * PROCESSES, [error for _, error in found]
        return [int(said) for said, _ in found]

    def steps(self, run: str, key: str) -> list[int]:
        """Return the steps of a metric as the server has them, and check their values."""
        found, token = [], ""
        while True:
            path = f"metrics/get-history?run_id={run}&metric_key={key}&max_results=25000&page_token={token}"
            page = self._server.mlflow("GET", path)[1]
            assert all(point["value"] == point["step"] * 0.5 for point in page.get("metrics", []))
            found += [point["step"] for point in page.get("metrics", [])]
            token = page.get("next_page_token", "")
            if not token:
                return found

    def check(self, counts: list[int]) -> None:
        """Assert that every acknowledged value is there, once, and that the latest values are those of the end."""
        latest = {}
        for run in (self.shared, *self.runs):
            data = self._server.mlflow("GET", f"runs/get?run_id={run}")[1]["run"]["data"]
            latest[run] = {metric["key"]: metric["step"] for metric in data["metrics"]}
        assert latest[self.shared] == {f"w{number}": count for number, count in enumerate(counts)}
        for number, (run, count) in enumerate(zip(self.runs, counts, strict=True)):
            keys = [f"m{key}" for key in range(10 if number % 2 else 1)]
            assert latest[run] == dict.fromkeys(keys, count)
            assert self.steps(run, keys[-1]) == list(range(1, count + 1))
            assert self.steps(self.shared, f"w{number}") == list(range(1, count + 1))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def hammered(request: pytest.FixtureRequest, own_server):
    """A server of one's own on either database, started."""
    if request.param == "sqlite":
        yield own_server.start()
        return
    postgresql = request.getfixturevalue("postgresql_server")
    name = f"hammer_{os.urandom(4).hex()}"
    postgresql.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    own_server.flags["database"] = postgresql.url_of(name)
    yield own_server.start()
    own_server.kill()
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_eight_processes_lose_nothing_and_meet_no_error(hammered, tmp_path: Path) -> None:
    hammer = Hammer(hammered, tmp_path)
    time.sleep(60 if LONG else 1.5)
    counts = hammer.finish()
    assert min(counts) > 0
    print(f"{sum(counts)} steps acknowledged")
    hammer.check(counts)


def test_kill_9_under_load_loses_nothing_acknowledged(hammered, tmp_path: Path) -> None:
    hammer = Hammer(hammered, tmp_path)
    kills = 50 if LONG else 2
    for number in range(kills):
        time.sleep(0.4 + 0.037 * (number % 11))
        hammered.kill()
        hammered.start()
    time.sleep(0.3)
    counts = hammer.finish()
    print(f"{kills} kills, {sum(counts)} steps acknowledged")
    hammer.check(counts)
