"""Personal columns do not reach the log, whoever spells them how, answered or refused."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from mainspring.core import Corrupt, InvalidInput, Unavailable
from mainspring.serving import PredictionRecord, read_records
from mainspring.serving.log import SegmentLog
from mainspring.serving.prediction_log import LogPolicy, PredictionLog
from mainspring.serving.redaction import project_key


def _record(id: str, **changes: object) -> PredictionRecord:
    fields: dict = {
        "id": id, "received_at": 5, "latency_ms": 1.0, "endpoint": "e", "revision": 1, "variant": "champion",
        "shadow": False, "model": "m", "version": "1", "digest": "sha256:0", "protocol": "v1", "status": 200, "rows": 2,
        "inputs": {"name": ["Ada", None], "user": ["u1", "u2"], "age": [36, 40]}, "outputs": [0.5, 0.6],
    }  # fmt: skip
    return PredictionRecord(**(fields | changes))


POLICY = LogPolicy(redact=("Name",), hashed=("user", "@split_key"))


def _log(tmp_path, clock, *records, policy=POLICY):
    folder = tmp_path / "predictions"
    PredictionLog(folder, clock, policy).append(records)
    return list(read_records(folder, 0, 2**60)), b"".join(path.read_bytes() for path in folder.glob("*.jsonl"))


def test_a_column_is_left_out_and_another_is_hashed(tmp_path, clock):
    (first, second), _ = _log(tmp_path, clock, _record("a"), _record("b", inputs={"user": ["u2"], "age": [1]}))
    assert set(first.inputs) == {"user", "age"}
    assert first.inputs["user"][0].startswith("hmac:")
    assert first.inputs["user"][1] == second.inputs["user"][0] != first.inputs["user"][0]
    assert first.hidden == ["@split_key", "name", "user"]


def test_a_name_in_other_letters_hides_nothing(tmp_path, clock):
    _, data = _log(tmp_path, clock, _record("a", inputs={" NAME ": ["Ada Lovelace"], "User": ["secret-user"]}))
    assert b"Ada" not in data
    assert b"secret-user" not in data


def test_a_refused_request_shows_neither_inputs_nor_values_in_its_errors(tmp_path, clock):
    refused = _record("a", status=400, outputs=None, validation_errors=["column 'user' row 0: got 'secret'", "no rows"])
    (record,), data = _log(tmp_path, clock, refused)
    assert b"Ada" not in data
    assert b"secret" not in data
    assert record.validation_errors == ["column 'user' is not valid (its values are not logged)", "no rows"]


def test_the_split_key_can_be_hashed(tmp_path, clock):
    (record,), data = _log(tmp_path, clock, _record("a", split_key="customer-7"))
    assert record.split_key.startswith("hmac:")
    assert b"customer-7" not in data


def test_arrays_are_hashed_value_by_value(tmp_path, clock):
    (record,), _ = _log(tmp_path, clock, _record("a", inputs={"user": np.array([1, 2]), "age": np.array([1.5, 2])}))
    assert len(set(record.inputs["user"])) == 2
    assert record.inputs["age"] == [1.5, 2.0]


def test_endpoints_of_a_project_share_a_private_key(tmp_path):
    one, two = tmp_path / "endpoints" / "a", tmp_path / "endpoints" / "b"
    assert project_key(one) == project_key(two) != project_key(tmp_path / "alone")
    path = tmp_path / "endpoints" / "privacy.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(Corrupt, match="5 bytes"):
        project_key(one)


def test_a_sample_keeps_requests_whole_and_every_failure_and_says_so(tmp_path, clock):
    records = [record for n in range(2000) for record in (_record(f"r{n}"), _record(f"r{n}", shadow=True))]
    failures = [_record(f"f{n}", status=400) for n in range(50)]
    kept, _ = _log(tmp_path, clock, *records, *failures, policy=LogPolicy(sample=0.25))
    answered = {record.id for record in kept if record.status == 200 and not record.shadow}
    assert {record.id for record in kept if record.shadow} == answered
    assert 400 < len(answered) < 600
    assert sum(record.status == 400 for record in kept) == 50
    assert {record.sample for record in kept} == {0.25, 1.0}
    assert sum(1 / record.sample for record in kept if not record.shadow) == pytest.approx(2050, rel=0.2)


def test_a_sample_is_a_share(tmp_path, clock):
    with pytest.raises(InvalidInput, match="no share"):
        PredictionLog(tmp_path, clock, LogPolicy(sample=0))


def test_a_full_disk_refuses_or_is_counted(tmp_path, clock, monkeypatch):
    def full(self, records):
        raise Unavailable("No space left.")

    refusing, dropping = (PredictionLog(tmp_path / n, clock, LogPolicy(on_full=n)) for n in ("refuse", "drop"))  # type: ignore[arg-type]
    monkeypatch.setattr(SegmentLog, "append", full)
    with pytest.raises(Unavailable):
        refusing.append([_record("a")])
    dropping.append([_record("a"), _record("b")])
    assert (dropping.dropped, dropping.is_dropping) == (2, True)
    monkeypatch.undo()
    dropping.append([_record("c")])
    assert (dropping.dropped, dropping.is_dropping) == (2, False)
