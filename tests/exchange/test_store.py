"""A whole store to a folder and back: complete, verified, between SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring import registry, tracking
from mainspring.core import Conflict, Corrupt, NotFound
from mainspring.db.tables import metadata
from mainspring.exchange import export_store, import_store
from mainspring.lineage import Store, list_events, record_event
from mainspring.tracking import Metric


def quiet(_: str, __: int, ___: int) -> None:
    """Show no progress."""


def fill(store: Store) -> str:
    """Put something into tracking, registry, lineage and the home folder; return the id of the run."""
    with store.database.write() as connection:
        tracking.ensure_default_experiment(connection, store.clock)
        experiment = tracking.create_experiment(connection, store.clock, "flights", tags={"a": "b"})
        run = tracking.create_run(connection, store.clock, experiment, name="ünïcode\n")
        number = tracking.find_run(connection, run.id).number
        values = [0.1, math.nan, math.inf, -2.5, 5e-324, 1 / 3]
        metrics = [Metric(key="loss", value=value, timestamp=n, step=n) for n, value in enumerate(values)]
        tracking.log_metrics(connection, number, metrics)
        many = [Metric(key="many", value=float(n), timestamp=n, step=n) for n in range(2001)]  # more than one chunk
        tracking.log_metrics(connection, number, many)
        for name in ("MLmodel", "data/weights.bin"):
            content = b"flavors: {}" if name == "MLmodel" else bytes(range(256)) * 1000
            digest = store.blobs.put(content)
            path = f"{experiment}/{run.id}/artifacts/m/{name}"
            tracking.put_file(connection, store.clock, path, digest=digest, size=len(content))
    with store.database.write() as connection:
        registry.create_model(connection, store.clock, "delays")
        source = f"runs:/{run.id}/m"
        registry.create_version(connection, store.blobs, store.clock, name="delays", source=source, run_id=run.id)
        registry.set_alias(
            connection, store.clock, name="delays", alias="champion", version="1", actor="me", reason="best"
        )
        record_event(connection, store.clock, "test.event", source="t", subject="s", data={"deep": [1, {"x": None}]})
    log = store.settings.home / "endpoints" / "e" / "log" / "1.segment"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"\x00\x01predictions")
    return run.id


def content(store: Store) -> dict[str, list[Any]]:
    with store.database.read() as connection:
        return {
            table.name: [repr(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]
            for table in metadata.sorted_tables
        }


def test_everything_comes_back(new_store: Callable, tmp_path: Path) -> None:
    first, second, folder = new_store(), new_store(), tmp_path / "out"
    id = fill(first)
    written = export_store(first, folder, progress=quiet)
    taken = import_store(second, folder, digest=written.digest, progress=quiet)
    assert (taken.rows, taken.blobs, taken.files) == (written.rows, written.blobs, 1)
    assert content(second) == content(first)
    assert sorted(second.blobs) == sorted(first.blobs)
    assert (second.settings.home / "endpoints/e/log/1.segment").read_bytes() == b"\x00\x01predictions"
    with second.database.read() as connection:
        number = tracking.find_run(connection, id).number
        values = [metric.value for metric in tracking.metric_history(connection, number, "loss")]
        assert math.isnan(values[1])
        assert values[3:] == [-2.5, 5e-324, 1 / 3]
        assert registry.resolve(connection, "models:/delays@champion").version == "1"
        assert any(event.data == {"deep": [1, {"x": None}]} for event in list_events(connection))


@pytest.mark.postgresql
def test_from_sqlite_to_postgresql_and_back(new_store: Callable, postgresql_url: str, tmp_path: Path) -> None:
    first, middle, last = new_store(), new_store(postgresql_url), new_store()
    fill(first)
    one = export_store(first, tmp_path / "one", progress=quiet)
    import_store(middle, tmp_path / "one", progress=quiet)
    two = export_store(middle, tmp_path / "two", progress=quiet)
    import_store(last, tmp_path / "two", progress=quiet)
    assert content(last) == content(middle) == content(first)
    tables = [json.loads((tmp_path / name / "manifest.json").read_bytes())["tables"] for name in ("one", "two")]
    assert tables[0] == tables[1]
    assert one.rows == two.rows
    with middle.database.write() as connection:  # ids go on where they were
        assert tracking.create_experiment(connection, middle.clock, "new") == "2"
        tracking.create_run(connection, middle.clock, "2")


def test_the_same_again_adds_nothing_and_something_else_is_refused(new_store: Callable, tmp_path: Path) -> None:
    first, second, folder = new_store(), new_store(), tmp_path / "out"
    fill(first)
    export_store(first, folder, progress=quiet)
    import_store(second, folder, progress=quiet)
    again = import_store(second, folder, progress=quiet)
    assert (again.rows, again.blobs, again.files) == (0, 0, 0)
    with second.database.write() as connection:
        tracking.create_experiment(connection, second.clock, "mine")
    with pytest.raises(Conflict, match="something else"):
        import_store(second, folder, progress=quiet)
    with pytest.raises(Conflict, match="not empty"):
        export_store(first, folder, progress=quiet)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize("what", ["table", "blob", "file", "missing", "added", "manifest", "link", "outside", "none"])
def test_a_changed_export_is_refused_and_nothing_is_imported(new_store: Callable, tmp_path: Path, what: str) -> None:
    first, second, folder = new_store(), new_store(), tmp_path / "out"
    fill(first)
    digest = export_store(first, folder, progress=quiet).digest
    manifest, blob = folder / "manifest.json", next(folder.glob("blobs/??/*"))
    if what == "table":
        flip(folder / "tables" / "run.jsonl")
    elif what == "blob":
        flip(blob)
    elif what == "file":
        flip(folder / "files/endpoints/e/log/1.segment")
    elif what == "missing":
        blob.unlink()
    elif what == "added":
        (folder / "files" / "extra").write_text("x")
    elif what == "link":
        blob.unlink()
        blob.symlink_to("/etc/passwd")
    elif what == "none":
        manifest.unlink()
    elif what == "outside":
        manifest.write_text(manifest.read_text().replace("endpoints/e/log", "../../e/log"))
        digest = ""
    else:
        manifest.write_text(manifest.read_text().replace('"test"', '"tost"'))
    with pytest.raises((Corrupt, NotFound)):
        import_store(second, folder, digest=digest, progress=quiet)
    assert content(second) == content(new_store())
    assert list(second.blobs) == []


def test_an_export_of_another_schema_is_refused(new_store: Callable, tmp_path: Path) -> None:
    first, folder = new_store(), tmp_path / "out"
    export_store(first, folder, progress=quiet)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": "9999"}))
    with pytest.raises(Conflict, match="9999"):
        import_store(new_store(), folder, progress=quiet)


@pytest.mark.parametrize("line", [b"{}\n", b"[1]\n", b"nonsense\n", b'{"number": "x"}\n'])
def test_a_forged_export_leaves_the_store_as_it_was(new_store: Callable, tmp_path: Path, line: bytes) -> None:
    """Digests that fit do not make rows: whoever can write a manifest cannot get further than an error."""
    first, second, folder = new_store(), new_store(), tmp_path / "out"
    fill(first)
    export_store(first, folder, progress=quiet)
    before = content(second)
    (folder / "tables" / "run.jsonl").write_bytes(line)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["tables"]["run"] = {"rows": 1, "digest": "sha256:" + hashlib.sha256(line).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Corrupt, match="run"):
        import_store(second, folder, progress=quiet)
    assert content(second) == before
