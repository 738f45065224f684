from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl
import pytest

from mainspring.components import split_newest, use_snapshot, validate_dataset
from mainspring.core import InvalidInput, Refused
from mainspring.core.settings import resolve_settings
from mainspring.datasets import Snapshot, append_snapshot, latest_snapshot
from mainspring.lineage import open_store
from mainspring.pipelines import task_environment

WEEK = pl.DataFrame({"at": [1, 2, 3], "x": [0.1, 0.2, 0.3], "kind": ["a", "b", "a"], "late": [0, 1, 0]})


@dataclass
class File:
    path: str
    metadata: dict[str, object] = field(default_factory=dict)


@pytest.fixture
def deliver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Append a frame to the dataset ``d`` of a project whose tasks run in this process."""
    (tmp_path / "mainspring.yaml").write_text("project: p\n")
    settings = resolve_settings(tmp_path)
    for name, value in task_environment(settings, tracking_url="").items():
        monkeypatch.setenv(name, value)

    def deliver(frame: pl.DataFrame) -> Snapshot:
        from mainspring.core.project import load_project

        store = open_store(settings, load_project(tmp_path))
        with store.database.read() as connection:
            parent = latest_snapshot(connection, "d")
        snapshot = append_snapshot(
            store.database, store.blobs, store.clock, "d", frame, time_column="at", parent=parent
        )
        store.close()
        return snapshot

    return deliver


def validate(tmp_path: Path, snapshot: Snapshot) -> dict[str, File]:
    data = File("")
    use_snapshot(f"dataset://d/{snapshot.id}", data)
    files = {name: File(str(tmp_path / name)) for name in ("profile", "schema", "anomalies")}
    validate_dataset(data, **files, label="late", unbounded=["at"])
    return files


def test_a_first_snapshot_of_one_part_is_checked_against_itself(deliver, tmp_path: Path) -> None:
    files = validate(tmp_path, deliver(WEEK))
    assert msgspec.json.decode(Path(files["anomalies"].path).read_bytes()) == []
    assert msgspec.json.decode(Path(files["profile"].path).read_bytes())["rows"] == 3


def test_a_new_part_is_checked_against_what_came_before(deliver, tmp_path: Path) -> None:
    deliver(WEEK)
    files = validate(tmp_path, deliver(WEEK.with_columns(pl.col("at") + 10)))
    assert msgspec.json.decode(Path(files["profile"].path).read_bytes())["rows"] == 6


@pytest.mark.parametrize(
    ("change", "named"),
    [(pl.all().exclude("x"), "'x'|x"), ([pl.all().exclude("x"), pl.col("kind").alias("x")], "x")],
)
def test_a_part_that_does_not_fit_is_refused_by_name(deliver, tmp_path: Path, change, named: str) -> None:
    deliver(WEEK)
    with pytest.raises(Refused, match=named):
        validate(tmp_path, deliver(WEEK.with_columns(pl.col("at") + 10).select(change)))


@pytest.mark.parametrize("reference", ["d", "dataset://d", "dataset://d/", "s3://d/x"])
def test_what_is_no_snapshot_is_refused(reference: str) -> None:
    with pytest.raises(InvalidInput, match="not a dataset snapshot"):
        use_snapshot(reference, File(""))


def test_the_newest_days_are_kept_apart() -> None:
    day = 86_400_000
    frame = pl.DataFrame({"at": [0, day, 2 * day, 3 * day]})
    train, test = split_newest(frame, time_column="at", days=1)
    assert train["at"].to_list() == [0, day, 2 * day]
    assert test["at"].to_list() == [3 * day]
