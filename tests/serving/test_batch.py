"""Files through a model: every row has its answer or its problem, also after a kill."""

from __future__ import annotations

import csv
import json

import msgspec
import polars as pl
import pytest

from mainspring.core import Conflict, InvalidInput, NotFound
from mainspring.serving import ModelReference, read_records
from mainspring.serving import batch as module
from mainspring.serving.batch import BatchOptions, predict_file
from mainspring.serving.mlmodel import tree_digest
from mainspring.serving.models import load_model
from mainspring.serving.prediction_log import PredictionLog


@pytest.fixture(scope="module")
def model(model_folder):
    digest = tree_digest(model_folder)
    return load_model(ModelReference(name="flights", version="1", digest=digest, folder=str(model_folder)))


def _rows(count: int) -> list[dict]:
    return [
        {"flight": f"00{n}", "carrier": "UA", "engine": None, "month": n % 12 + 1, "distance": 100.5 * n, "temp": None}
        for n in range(count)
    ]


def _write(path, rows):
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix == ".csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        path.write_bytes(msgspec.json.Encoder().encode_lines(rows))
    return path


def _read(path) -> list[dict]:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [{**row, "prediction": float(row["prediction"])} for row in csv.DictReader(file)]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("before", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("after", ["csv", "parquet", "jsonl"])
def test_every_kind_of_file_goes_in_and_comes_out(tmp_path, clock, model, before, after):
    source, target = _write(tmp_path / f"in.{before}", _rows(10)), tmp_path / f"out.{after}"
    done = predict_file(model, source, target, clock, BatchOptions(part=4))
    assert (done.rows, done.problems, done.resumed) == (10, 0, 0)
    found = _read(target)
    expected = predict_file(model, source, tmp_path / "one.jsonl", clock)
    assert expected.rows == 10
    assert [row["prediction"] for row in found] == [row["prediction"] for row in _read(tmp_path / "one.jsonl")]
    assert "problem" not in found[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, target.name, "one.jsonl"])


def test_a_row_that_cannot_be_predicted_harms_no_other(tmp_path, clock, model):
    rows = _rows(6)
    rows[2]["month"] = 1.5
    rows[4]["carrier"] = None
    done = predict_file(model, _write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", clock)
    found = _read(tmp_path / "out.jsonl")
    assert done.problems == 2
    assert [row["prediction"] is None for row in found] == [False, False, True, False, True, False]
    assert "month" in found[2]["problem"]
    assert "carrier" in found[4]["problem"]


def test_a_model_that_fails_on_a_row_says_so_for_that_row(tmp_path, clock, model, monkeypatch):
    def picky(checked):
        if any(value == 301.5 for value in checked["distance"]):
            raise ZeroDivisionError
        return model.predict(checked)

    import dataclasses

    fragile = dataclasses.replace(model, predict=picky)
    done = predict_file(fragile, _write(tmp_path / "in.jsonl", _rows(6)), tmp_path / "out.jsonl", clock)
    assert done.problems == 1
    assert _read(tmp_path / "out.jsonl")[3]["problem"] == "the model failed: ZeroDivisionError"


def test_a_killed_run_goes_on_after_its_last_part(tmp_path, clock, model, monkeypatch):
    source, target = _write(tmp_path / "in.csv", _rows(20)), tmp_path / "out.parquet"
    parts = []

    def die(rows):
        parts.append(rows)
        if len(parts) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(model, source, target, clock, BatchOptions(part=4, on_part=die))
    assert not target.exists()
    done = predict_file(model, source, target, clock, BatchOptions(part=4))
    assert (done.rows, done.resumed) == (20, 12)
    assert len(_read(target)) == 20
    assert not (tmp_path / "out.parquet.parts").exists()


def test_parts_of_another_run_are_not_mixed_in(tmp_path, clock, model, monkeypatch):
    source, target = _write(tmp_path / "in.csv", _rows(8)), tmp_path / "out.csv"
    monkeypatch.setattr(module, "_assemble", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        predict_file(model, source, target, clock, BatchOptions(part=4))
    monkeypatch.undo()
    _write(source, _rows(9))
    with pytest.raises(Conflict, match="another input"):
        predict_file(model, source, target, clock, BatchOptions(part=4))


def test_records_are_written_if_asked_for(tmp_path, clock, model):
    log = PredictionLog(tmp_path / "predictions", clock)
    options = BatchOptions(part=4, log=log, endpoint="flights")
    predict_file(model, _write(tmp_path / "in.jsonl", _rows(6)), tmp_path / "out.jsonl", clock, options)
    log.close()
    records = list(read_records(tmp_path / "predictions", 0, 2**60))
    assert [(record.rows, record.protocol, record.variant) for record in records] == [(4, "batch", "batch")] * 1 + [
        (2, "batch", "batch")
    ]
    assert [score for record in records for score in record.outputs] == [
        row["prediction"] for row in _read(tmp_path / "out.jsonl")
    ]


def test_what_cannot_work_is_said_before_anything_is_written(tmp_path, clock, model):
    source = _write(tmp_path / "in.jsonl", _rows(1))
    with pytest.raises(NotFound):
        predict_file(model, tmp_path / "none.csv", tmp_path / "out.csv", clock)
    with pytest.raises(InvalidInput, match="neither CSV"):
        predict_file(model, source, tmp_path / "out.xlsx", clock)
    with pytest.raises(InvalidInput, match="has no 'predict_log'"):
        predict_file(model, source, tmp_path / "out.csv", clock, BatchOptions(method="predict_log"))
    source.write_bytes(b'{"a":1}\n[1]\n')
    with pytest.raises(InvalidInput, match="line 2"):
        predict_file(model, source, tmp_path / "out.csv", clock)
