"""Sealed files and live segments read as one, whatever a crash leaves."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core import Corrupt
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import Store, find_artifacts
from mainspring.monitoring import (
    SealingPolicy,
    Window,
    check_log,
    measure_tables,
    measure_window,
    seal_log,
    seal_logs,
    sealing,
)
from mainspring.serving import (
    LabelRecord,
    find_records,
    first_record_at,
    newest_label,
    read_labels,
    read_records,
    read_tables,
)
from mainspring.serving.columnar import record_table, records_of
from mainspring.serving.log import DAY_MS, SegmentLog
from mainspring.serving.sealed import read_manifest, write_manifest

LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"


@pytest.fixture
def store(tmp_path, sqlite_database, blobs, clock) -> Store:
    return Store(
        settings=resolve_settings(tmp_path),
        project=Project(project="p"),
        database=sqlite_database,
        blobs=blobs,
        clock=clock,
        actor="ada",
    )


@pytest.fixture
def folder(store) -> Path:
    folder = store.settings.endpoint_folder("e") / "predictions"
    folder.mkdir(parents=True)
    return folder


def _fill(folder, clock, predict, days=3, per_day=4):
    log = SegmentLog(folder, clock)
    written = []
    for day in range(days):
        batch = [
            predict(f"d{day}-{n}", [0.1 * n, 0.5], at=clock.now_ms() + n, inputs={"x": [n, 1.5], "city": ["a", None]})
            for n in range(per_day)
        ]
        batch.append(predict(f"bad{day}", None, at=clock.now_ms(), status=400, inputs={"odd": [{"a": 1}, True]}))
        log.append(batch)
        written += batch
        clock.advance(DAY_MS)
    return log, written


def test_finished_segments_become_one_private_verified_file_and_the_live_one_stays(store, folder, clock, predict):
    log, written = _fill(folder, clock, predict)
    file = seal_log(store, folder)
    assert file is not None
    assert (file.records, len(file.segments)) == (10, 2)
    assert len(list(folder.glob("*.jsonl"))) == 1
    assert list(read_records(folder, 0, 2**60)) == written
    assert stat.S_IMODE(store.blobs.path(file.digest).stat().st_mode) == 0o400
    assert check_log(store, folder) == 1
    with store.database.read() as connection:
        (artifact,) = find_artifacts(connection, digest=file.digest)
    assert (artifact.type, artifact.name) == ("mainspring.LogFile", "e/predictions")
    log.close()
    assert seal_log(store, folder).previous == file.digest
    assert list(read_records(folder, 0, 2**60)) == written
    assert seal_log(store, folder) is None


def test_what_is_sealed_is_read_by_time_by_id_and_as_tables(store, folder, clock, predict):
    start = clock.now_ms()
    log, written = _fill(folder, clock, predict, days=4)
    seal_log(store, folder)
    day = [record for record in written if start + DAY_MS <= record.received_at < start + 2 * DAY_MS]
    assert list(read_records(folder, start + DAY_MS, start + 2 * DAY_MS)) == day
    assert find_records(folder, "d1-2") == [record for record in written if record.id == "d1-2"]
    assert find_records(folder, "d3-0")[0].id == "d3-0"
    assert first_record_at(folder) == start
    tables = list(read_tables(folder, 0, 2**60, columns=("id", "rows")))
    assert [id for table in tables for id in table.column("id").to_pylist()] == [record.id for record in written]
    assert {tuple(table.schema.names) for table in tables} == {("id", "rows")}
    log.close()


def test_a_window_is_measured_alike_live_sealed_and_in_chunks(store, folder, clock, predict, label, monkeypatch):
    start = clock.now_ms()
    log, written = _fill(folder, clock, predict, days=5, per_day=30)
    labels = [label(f"d{day}-{n}:1", n % 2, at=start + 9 * DAY_MS) for day in range(5) for n in range(30)]
    window = Window(start=start, end=start + 4 * DAY_MS)
    expected = measure_window(window, written, labels)
    assert expected.volume.requests == 124
    assert measure_tables(window, read_tables(folder, window.start, window.end), labels) == expected
    seal_log(store, folder)
    assert measure_tables(window, read_tables(folder, window.start, window.end), labels) == expected
    monkeypatch.setattr("mainspring.monitoring.gathering.CHUNK_ROWS", 25)
    twice = [record_table(written[:40]), *read_tables(folder, window.start, window.end)]
    assert measure_tables(window, twice, labels).served == expected.served
    log.close()


def test_logs_are_sealed_when_they_are_old_or_large(store, folder, clock, predict):
    log, written = _fill(folder, clock, predict)
    labels = folder.parent / "labels"
    label_log = SegmentLog(labels, clock)
    label_log.append([LabelRecord(id="d0-0:0", label=1, time=5, received_at=6)])
    stamp = newest_label(labels)
    assert not seal_logs(store)
    assert seal_logs(store, SealingPolicy(bytes=1))
    clock.advance(30 * DAY_MS)
    log.close()
    label_log.close()
    assert seal_logs(store)
    assert not seal_logs(store)
    assert [one.id for one in read_labels(labels)] == ["d0-0:0"]
    assert newest_label(labels) != stamp
    assert Counter(read.id for read in read_records(folder, 0, 2**60)) == Counter(one.id for one in written)


def test_bytes_that_changed_after_sealing_are_refused(store, folder, clock, predict):
    _fill(folder, clock, predict)
    file = seal_log(store, folder)
    path = store.blobs.path(file.digest)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="changed after it was sealed"):
        list(read_records(folder, 0, 2**60))
    with pytest.raises(Corrupt):
        find_records(folder, "d0-0")


def test_an_entry_that_is_taken_out_of_the_manifest_is_noticed(store, folder, clock, predict):
    for _ in range(3):
        _fill(folder, clock, predict, days=2)[0].close()
        seal_log(store, folder)
    files = read_manifest(folder).files
    write_manifest(folder, [files[0], files[2]])
    with pytest.raises(Corrupt, match="does not hold together"):
        list(read_records(folder, 0, 2**60))
    write_manifest(folder, files[:2])
    with pytest.raises(Corrupt, match="names 2 files, recorded are 3"):
        check_log(store, folder)


def test_a_tampered_segment_is_not_sealed(store, folder, clock, predict):
    log, _ = _fill(folder, clock, predict)
    log.close()
    path = min(folder.glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6", 1))
    with pytest.raises(Corrupt, match="changed"):
        seal_log(store, folder)
    assert len(list(folder.glob("*.jsonl"))) == 3


@pytest.mark.parametrize("step", ["_write", "_verify", "_record", "write_manifest", "unlink"])
def test_a_crash_after_any_step_loses_nothing_and_doubles_nothing(store, folder, clock, predict, monkeypatch, step):
    log, written = _fill(folder, clock, predict)
    log.close()

    class Killed(BaseException):
        pass

    done = getattr(sealing, step, None) or Path.unlink

    def die(*given, **named):
        if step == "unlink" and not given[0].name.endswith(".jsonl"):
            return done(*given, **named)
        done(*given, **named)
        raise Killed

    monkeypatch.setattr(*((Path, "unlink") if step == "unlink" else (sealing, step)), die)
    with pytest.raises(Killed):
        seal_log(store, folder)
    monkeypatch.undo()
    assert list(read_records(folder, 0, 2**60)) == written
    seal_log(store, folder)
    assert list(read_records(folder, 0, 2**60)) == written
    assert list(folder.glob("*.jsonl")) == []
    assert check_log(store, folder) == 1


def test_a_reader_that_is_overtaken_by_sealing_reads_every_record_once(store, folder, clock, predict):
    log, written = _fill(folder, clock, predict, days=5)
    log.close()
    reading = read_records(folder, 0, 2**60)
    first = [next(reading) for _ in range(3)]
    seal_log(store, folder)
    assert first + list(reading) == written


_values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5), st.lists(st.integers(0, 5), max_size=2),
)  # fmt: skip
_columns = st.dictionaries(st.text(max_size=4), st.lists(_values, max_size=3), max_size=3)
_some = {
    "inputs": st.none() | _columns,
    "outputs": st.none() | st.lists(_values, max_size=3),
    "status": st.sampled_from([200, 400, 500]),
    "validation_errors": st.lists(st.text(max_size=5), max_size=2),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.fixed_dictionaries(_some), max_size=5))
def test_tables_hold_any_record_exactly(predict, changes):
    records = [predict(f"r{n}", **{**change, "rows": n}) for n, change in enumerate(changes)]
    table = record_table(records)
    assert list(records_of(table, type(predict("r", None)))) == records
    assert pl.from_arrow(table.select(["id", "rows"])).height == len(records)
    assert isinstance(table, pa.Table)


WRITER = """
import itertools, os, sys, time
from pathlib import Path
from mainspring.core import SystemClock
from mainspring.serving import PredictionRecord
from mainspring.serving.log import SegmentLog
log = SegmentLog(Path(sys.argv[1]), SystemClock(), segment_bytes=20_000)
common = dict(latency_ms=1.0, endpoint="e", revision=1, variant="champion", shadow=False, model="m", version="1",
              digest="d", protocol="v2", status=200, rows=1, inputs={"x": [1.5]}, outputs=[0.5])
for n in itertools.count():
    log.append([PredictionRecord(id=f"{os.getpid()}-{n}-{k}", received_at=n, **common) for k in range(20)])
    print(n, flush=True)
    time.sleep(0.002)
"""
SEALER = """
import sys
from pathlib import Path
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import open_store
from mainspring.monitoring import seal_log
store = open_store(resolve_settings(Path(sys.argv[1])), Project(project="p"))
while True:
    if seal_log(store, Path(sys.argv[2]), limit=60_000):
        print("sealed", flush=True)
"""


def test_nothing_acknowledged_is_lost_or_doubled_when_writer_and_sealer_are_killed(tmp_path, folder):
    generator = random.Random(7)
    acknowledged: Counter[str] = Counter()
    for _ in range(20 if LONG else 1):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
        sealer = subprocess.Popen([sys.executable, "-c", SEALER, str(tmp_path), str(folder)], stdout=subprocess.PIPE)
        assert sealer.stdout is not None
        assert writer.stdout is not None
        sealer.stdout.readline()
        time.sleep(generator.uniform(0, 0.3))
        for process in generator.sample([writer, sealer], 2):
            os.kill(process.pid, signal.SIGKILL)
        lines = writer.stdout.read().splitlines()
        acknowledged.update(f"{writer.pid}-{int(n)}-{k}" for n in lines for k in range(20))
        writer.wait()
        sealer.wait()
        sealer.stdout.close()
        read = Counter(record.id for record in read_records(folder, -1, 2**60))
        assert not acknowledged - read
        assert set(read.values()) <= {1}
    assert read_manifest(folder).files
