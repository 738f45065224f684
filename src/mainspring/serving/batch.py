"""Batch prediction: a file in, a file out, through the plan and the model that answer requests.

Parts of the input are predicted one by one, and each is written whole before the next: a run that was killed goes on
after its last part. A row that cannot be predicted has its problem beside it and harms no other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core import Clock, Conflict, Corrupt, InvalidInput, NotFound, new_id
from mainspring.serving.checked import Checked
from mainspring.serving.deployment import write_atomically
from mainspring.serving.faults import BadRequest
from mainspring.serving.models import LoadedModel
from mainspring.serving.outputs import PREDICT, Outputs
from mainspring.serving.plan import Plan
from mainspring.serving.prediction_log import PredictionLog
from mainspring.serving.recording import logged_inputs
from mainspring.serving.records import PredictionRecord
from mainspring.serving.rowfiles import kind_of, read_rows, write_rows
from mainspring.serving.unsigned import take
from mainspring.serving.validation import check_params, check_rows
from mainspring.serving.wire import plain

PREDICTION, PROBLEM = "prediction", "problem"
"""The columns of the output beside those of the input."""
_TEXTS = ("string", "datetime", "binary")
Row = dict[str, Any]


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about; a run only goes on where another left off if both are about the same."""

    input: str
    size: int
    modified: int
    model: str
    digest: str
    method: str
    part: int


class BatchSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did."""

    rows: int
    problems: int
    resumed: int
    """Of the rows, those a run before had predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a file is predicted."""

    method: str = PREDICT
    """The output to ask for: ``predict_proba`` where the model has it."""
    part: int = 4_096
    """Rows predicted at once, and rows that a killed run has to predict again at most."""
    log: PredictionLog | None = None
    """Where to write records; none are written without."""
    endpoint: str = "batch"
    on_part: Callable[[int], None] = lambda rows: None
    """Told of every part that is done."""


def predict_file(
    model: LoadedModel, source: Path, target: Path, clock: Clock, options: BatchOptions | None = None
) -> BatchSummary:
    """Predict every row of a CSV, Parquet or JSON lines file into another; raise `InvalidInput` for what is neither."""
    options = options or BatchOptions()
    kind_of(source), kind_of(target)
    if not source.is_file():
        raise NotFound(f"There is no file {source}.", hint="Pass a CSV, Parquet or JSON lines file.")
    if options.method != PREDICT and options.method not in model.methods:
        known = ", ".join([PREDICT, *(name for name in model.methods if name != PREDICT)])
        raise InvalidInput(f"The model has no {options.method[:50]!r}.", hint=f"It has {known}.")
    folder = _open_parts(model, source, target, options)
    texts = {column.name for column in model.plan.columns if column.type in _TEXTS}
    rows = problems = resumed = 0
    for number, part in enumerate(read_rows(source, part=options.part, texts=texts)):
        path = folder / f"{number:08d}.jsonl"
        if path.exists():
            resumed += len(part)
            problems += path.read_bytes().count(f'"{PROBLEM}":"'.encode())
        else:
            problems += _predict_part(model, part, path, clock, options)
        rows += len(part)
        options.on_part(len(part))
    _assemble(folder, target)
    shutil.rmtree(folder)
    return BatchSummary(rows=rows, problems=problems, resumed=resumed)


def _open_parts(model: LoadedModel, source: Path, target: Path, options: BatchOptions) -> Path:
    """Return the folder of finished parts; raise `Conflict` if it holds parts of another run."""
    folder = target.with_name(f"{target.name}.parts")
    status = source.stat()
    wanted = BatchPlan(
        input=str(source.resolve()),
        size=status.st_size,
        modified=status.st_mtime_ns,
        model=f"{model.reference.name}/{model.reference.version}",
        digest=model.reference.digest,
        method=options.method,
        part=options.part,
    )
    plan = folder / "plan.json"
    if plan.exists() and msgspec.json.decode(plan.read_bytes(), type=BatchPlan) != wanted:
        raise Conflict(
            f"{folder} holds parts of a run with another input, model or method.",
            hint=f"Delete it to start over: rm -r {folder}",
        )
    try:
        write_atomically(plan, msgspec.json.encode(wanted))
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror}.", hint="Check the folder.") from error
    return folder


def _predict_part(model: LoadedModel, part: Sequence[Row], path: Path, clock: Clock, options: BatchOptions) -> int:
    """Predict some rows, log them, and write them down; return how many have a problem."""
    received_at, started = clock.now_ms(), perf_counter()
    rows = [{name: _plain(value) for name, value in row.items()} for row in part]
    checked, good, found = _check(model.plan, [_inputs_of(row, model.plan) for row in rows])
    outputs = _predict(model, checked, options.method, good, found) if checked is not None else None
    values = iter(_values(outputs) if outputs is not None else ())
    lines = [
        {**row, PREDICTION: next(values) if index not in found else None, PROBLEM: found.get(index)}
        for index, row in enumerate(rows)
    ]
    if options.log is not None:
        latency = round((perf_counter() - started) * 1000, 3)
        record = _record(model, checked, outputs, clock, received_at, latency, options.endpoint)
        options.log.append([msgspec.structs.replace(record, validation_errors=list(found.values())[:20])])
    write_atomically(path, msgspec.json.Encoder().encode_lines(lines))
    return len(found)


def _check(plan: Plan, rows: Sequence[Row]) -> tuple[Checked | None, list[int], dict[int, str]]:
    """Check rows together, or one by one if something is wrong; return the good ones, their places, the problems."""
    params = check_params(plan, None)
    try:
        return _read(plan, rows, params), list(range(len(rows))), {}
    except BadRequest:
        pass
    good: list[int] = []
    problems: dict[int, str] = {}
    for index, row in enumerate(rows):
        try:
            _read(plan, [row], params)
            good.append(index)
        except BadRequest as error:
            problems[index] = "; ".join(error.problems)
    kept = [rows[index] for index in good]
    return (_read(plan, kept, params) if kept else None), good, problems


def _predict(
    model: LoadedModel, checked: Checked, method: str, good: list[int], found: dict[int, str]
) -> Outputs | None:
    """Predict the good rows; rows that make the model fail are found one by one and get a problem."""
    call = model.predict if method == PREDICT else model.methods[method]
    try:
        outputs = call(checked)
        if any(array.ndim == 0 or len(array) != checked.rows for array in outputs.arrays):
            raise Corrupt(f"The model answered {outputs.rows} rows to {checked.rows}.")
        return outputs
    except Exception as error:  # noqa: BLE001 supervision point: a model may fail in any way
        if checked.rows == 1:
            found[good[0]] = f"the model failed: {type(error).__name__}"
            return None
    parts = [_predict(model, checked.slice(n, n + 1), method, [good[n]], found) for n in range(checked.rows)]
    kept = [part for part in parts if part is not None]
    if not kept:
        return None
    arrays = tuple(np.concatenate(arrays) for arrays in zip(*(part.arrays for part in kept), strict=True))
    return replace(kept[0], arrays=arrays)


def _values(outputs: Outputs) -> Iterator[Any]:
    columns: list[NDArray[Any]] = list(outputs.arrays)
    if len(columns) == 1:
        yield from plain(columns[0])
        return
    for row in zip(*map(plain, columns), strict=True):
        yield dict(zip(outputs.names, row, strict=True))


def _inputs_of(row: Row, plan: Plan) -> Row:
    """Return the columns of a row that the model takes; all of them where it has no names for them."""
    if not plan.columns:
        return row
    return {name: row[name] for name in plan.names if name in row}


def _read(plan: Plan, rows: Sequence[Row], params: Mapping[str, object]) -> Checked:
    """Check rows; a model without a signature gets them as a table."""
    if plan.is_open:
        return take(None, list(rows), "table")
    return check_rows(plan, _as_given(plan, rows), params=params)


def _as_given(plan: Plan, rows: Sequence[Row]) -> Sequence[Any]:
    """Return rows as the plan reads them: objects by name, or lists for a tensor of all columns."""
    if plan.columns or not rows or rows[0].keys() == plan.name_set:
        return rows
    return [list(row.values()) for row in rows]


def _record(
    model: LoadedModel,
    checked: Checked | None,
    outputs: Outputs | None,
    clock: Clock,
    received_at: int,
    latency_ms: float,
    endpoint: str,
) -> PredictionRecord:
    reference = model.reference
    rows = checked.rows if checked is not None and outputs is not None else 0
    return PredictionRecord(
        id=new_id(clock),
        received_at=received_at,
        latency_ms=latency_ms,
        endpoint=endpoint,
        revision=0,
        variant="batch",
        shadow=False,
        model=reference.name,
        version=reference.version,
        digest=reference.digest,
        protocol="batch",
        status=200 if rows else 400,
        rows=rows,
        inputs=logged_inputs(checked, model.plan) if checked is not None and rows else None,
        outputs=plain(outputs.primary) if outputs is not None else None,
        batch_rows=rows,
    )


def _assemble(folder: Path, target: Path) -> None:
    """Put the parts together; the output appears whole or not at all."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    parts = sorted(folder.glob("*.jsonl"))
    try:
        write_rows(aside, kind_of(target), parts, optional=PROBLEM)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _plain(value: object) -> object:
    """Return a value of a file as JSON would have it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
        return None
    return value
