"""What was appended is read back; what was torn is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import Corrupt, FixedClock, Unavailable
from mainspring.serving import LabelRecord, PredictionRecord, find_record, find_records, read_labels, read_records
from mainspring.serving.log import DAY_MS, SegmentLog
from mainspring.serving.recovery import recover


def _record(id: str, received_at: int, **changes: object) -> PredictionRecord:
    fields: dict = {
        "id": id,
        "received_at": received_at,
        "latency_ms": 1.0,
        "endpoint": "e",
        "revision": 1,
        "variant": "champion",
        "shadow": False,
        "model": "m",
        "version": "1",
        "digest": "sha256:0",
        "protocol": "v1",
        "status": 200,
        "rows": 1,
        "inputs": {"s": ['a "quoted"\n\r line', None]},
        "outputs": [0.5],
    }
    return PredictionRecord(**(fields | changes))


def test_records_come_back_as_they_were_written(tmp_path, clock):
    log = SegmentLog(tmp_path, clock)
    records = [_record(f"r{n}", clock.now_ms() + n) for n in range(5)]
    log.append(records[:2])
    log.append(records[2:])
    assert list(read_records(tmp_path, 0, 2**60)) == records
    assert list(read_records(tmp_path, clock.now_ms() + 1, clock.now_ms() + 3)) == records[1:3]


def test_a_segment_is_private_to_its_owner(tmp_path, clock):
    SegmentLog(tmp_path, clock).append([_record("r", clock.now_ms())])
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


def test_a_segment_ends_with_the_day_and_with_its_size(tmp_path, clock):
    log = SegmentLog(tmp_path, clock, segment_bytes=600)
    for n in range(8):
        log.append([_record(f"r{n}", clock.now_ms())])
        clock.advance(DAY_MS // 4)
    assert len(list(tmp_path.iterdir())) == 4
    assert [record.id for record in read_records(tmp_path, 0, 2**60)] == [f"r{n}" for n in range(8)]


def test_segments_outside_the_interval_are_not_opened(tmp_path, clock):
    log = SegmentLog(tmp_path, clock)
    start = clock.now_ms()
    for n in range(10):
        log.append([_record(f"r{n}", clock.now_ms())])
        clock.advance(DAY_MS)
    log.close()
    for path in tmp_path.iterdir():
        day = (int(path.name.partition("-")[0]) - start) // DAY_MS
        if day < 4 or day > 7:
            path.write_bytes(b'not json\n{"check":1,"records":1}\n')
    wanted = read_records(tmp_path, start + 4 * DAY_MS, start + 7 * DAY_MS)
    assert [record.id for record in wanted] == ["r4", "r5", "r6"]


def test_a_record_logged_after_midnight_is_found_in_its_day(tmp_path, clock):
    log = SegmentLog(tmp_path, clock)
    late = clock.now_ms() - 5
    log.append([_record("late", late)])
    assert [record.id for record in read_records(tmp_path, late - 100, late + 1)] == ["late"]


def test_a_torn_last_batch_is_ignored(tmp_path, clock):
    log = SegmentLog(tmp_path, clock)
    log.append([_record("whole", clock.now_ms())])
    log.append([_record("torn", clock.now_ms())])
    log.close()
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 7)
    assert [record.id for record in read_records(tmp_path, 0, 2**60)] == ["whole"]
    assert find_record(tmp_path, "torn") is None


@given(cut=st.integers(0, 3_000))
def test_wherever_a_segment_is_cut_whole_batches_remain_and_recovery_keeps_them(cut):
    with TemporaryDirectory() as name:
        folder, clock = Path(name), FixedClock()
        log = SegmentLog(folder, clock)
        ends = []
        for n in range(4):
            log.append([_record(f"r{n}", clock.now_ms()), _record(f"s{n}", clock.now_ms())])
            ends.append(log.written)
        log.close()
        (path,) = folder.iterdir()
        cut = min(cut, ends[-1])
        os.truncate(path, cut)
        whole = sum(end <= cut for end in ends)
        wanted = [id for n in range(whole) for id in (f"r{n}", f"s{n}")]
        assert [record.id for record in read_records(folder, 0, 2**60)] == wanted
        assert recover(folder) == cut - ([0, *ends][whole])
        assert path.stat().st_size == [0, *ends][whole]
        assert [record.id for record in read_records(folder, 0, 2**60)] == wanted


def test_recovery_leaves_the_segments_of_the_living_alone(tmp_path, clock):
    log = SegmentLog(tmp_path, clock)
    log.append([_record("r", clock.now_ms())])
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"id":"half')
    (tmp_path / "0000000000001-1-0-aa.part").touch()
    assert recover(tmp_path) == 0
    assert not list(tmp_path.glob("*.part"))
    log.close()
    assert recover(tmp_path) == len(b'{"id":"half')


@pytest.mark.parametrize(
    "tamper",
    [
        lambda data: data.replace(b"[0.5]", b"[0.9]", 1),
        lambda data: data[data.index(b"\n") + 1 :],
        lambda data: data.replace(b'"check":', b'"check":1', 1),
        lambda data: data[: data.index(b'{"check"')] + b'{"check":"x","records":1}\n' + data,
    ],
)
def test_a_record_that_was_edited_removed_or_put_in_is_noticed(tmp_path, clock, tamper):
    log = SegmentLog(tmp_path, clock)
    for n in range(3):
        log.append([_record(f"r{n}", clock.now_ms())])
    (path,) = tmp_path.iterdir()
    path.write_bytes(tamper(path.read_bytes()))
    with pytest.raises(Corrupt):
        list(read_records(tmp_path, 0, 2**60))


def test_a_request_is_found_with_its_shadows(tmp_path, clock):
    log = SegmentLog(tmp_path, clock)
    log.append([_record("other", clock.now_ms(), inputs={"s": ['\n{"id":"wanted",']})])
    log.append([_record("wanted", clock.now_ms()), _record("wanted", clock.now_ms(), shadow=True, variant="b")])
    assert [record.variant for record in find_records(tmp_path, "wanted")] == ["champion", "b"]
    found = find_record(tmp_path, "wanted")
    assert found is not None
    assert found.variant == "champion"
    assert find_record(tmp_path, "want") is None


def test_a_full_disk_is_an_error_and_leaves_no_partial_line(tmp_path, clock, monkeypatch):
    log = SegmentLog(tmp_path, clock)
    log.append([_record("before", clock.now_ms())])
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
    with pytest.raises(Unavailable, match="cannot be written"):
        log.append([_record("half", clock.now_ms())])

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(Unavailable, match="No space left"):
        log.append([_record("none", clock.now_ms())])
    monkeypatch.setattr(os, "write", write)
    log.append([_record("after", clock.now_ms())])
    assert [record.id for record in read_records(tmp_path, 0, 2**60)] == ["before", "after"]


def test_labels_are_read_back(tmp_path, clock):
    log = SegmentLog(tmp_path, clock)
    label = LabelRecord(id="r:0", label=1, time=5, received_at=6)
    log.append([label])
    assert list(read_labels(tmp_path)) == [label]


def test_a_folder_that_is_not_there_has_no_records(tmp_path):
    assert list(read_records(tmp_path / "none", 0, 2**60)) == []
