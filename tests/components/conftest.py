"""Artifacts as KFP gives them to a step, and rows with a pattern to learn."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mainspring.components import write_table
from mainspring.core.settings import resolve_settings
from mainspring.pipelines import task_environment


@dataclass
class File:
    """What a step sees of an artifact."""

    path: str
    metadata: dict[str, object] = field(default_factory=dict)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], File]:
    """An output artifact that is not there yet."""
    return lambda name: File(str(tmp_path / "artifacts" / name))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()


@pytest.fixture
def table(file: Callable[[str], File]) -> Callable[[str, pl.DataFrame], File]:
    """An artifact that holds a table."""

    def make(name: str, frame: pl.DataFrame) -> File:
        made = file(name)
        write_table(made, frame)
        return made

    return make


def customers(rows: int, seed: int = 0) -> pl.DataFrame:
    """Customers who churn: more of them when the fee is high, the contract monthly and the tenure short."""
    random = np.random.default_rng(seed)
    fee, tenure = random.normal(60, 20, rows), random.integers(1, 72, rows)
    contract = random.choice(["monthly", "yearly", "two years"], rows)
    logit = 0.06 * (fee - 60) - 0.05 * (tenure - 30) + 1.5 * (contract == "monthly") - 1.0
    churn = random.random(rows) < 1 / (1 + np.exp(-logit))
    gaps = random.random(rows) < 0.05
    return pl.DataFrame(
        {
            "customer": [f"c{number % max(1, rows // 2)}" for number in range(rows)],
            "signed": 1_700_000_000_000 + np.arange(rows) * 60_000,
            "fee": pl.Series(fee.round(2)).set(pl.Series(gaps), None),
            "tenure": tenure,
            "contract": pl.Series(contract).set(pl.Series(np.roll(gaps, 7)), None),
            "region": random.choice(["north", "south"], rows),
            "churn": churn.astype(np.int64),
            "plan": np.where(fee > 75, "large", np.where(fee > 45, "medium", "small")),
            "bill": (fee * 12 + random.normal(0, 30, rows)).round(2),
        }
    )


@pytest.fixture
def churned() -> Callable[..., pl.DataFrame]:
    return customers


SERVER = """
import sys
from pathlib import Path
from mainspring.api import run_server
from mainspring.core.project import load_project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import open_store
folder = Path(sys.argv[1])
project = load_project(folder)
run_server(open_store(resolve_settings(folder, flags={"port": 0}), project))
"""


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A project and the address of its tracking server, a process of its own."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "mainspring.yaml").write_text("project: p\nendpoints:\n  shop:\n    model: churn\n")
    state = folder / ".mainspring" / "server.json"
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)])
    deadline = time.monotonic() + 60
    while not state.exists():
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
    yield folder, json.loads(state.read_bytes())["url"]
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture
def tracking(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of `served`; steps of this process log to its server and find its store."""
    import mlflow

    folder, url = served
    settings = resolve_settings(folder)
    for name, value in task_environment(settings, tracking_url=url).items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(url)
    return folder
