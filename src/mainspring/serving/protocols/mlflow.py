"""MLflow's scoring protocol 2.x: ``POST /invocations``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from mainspring.core import MainspringError
from mainspring.serving.faults import BadRequest, TooLarge, UnsupportedMedia
from mainspring.serving.numbers import decode_or_none, numbers_of_rows
from mainspring.serving.plan import INPUT, Column, Plan
from mainspring.serving.protocols.answers import lists, predictions
from mainspring.serving.protocols.v1 import read_instances
from mainspring.serving.unsigned import infer_cells
from mainspring.serving.validation import MLFLOW, Columns, matrix_to_columns
from mainspring.serving.wire import (
    Answer,
    Given,
    Headers,
    Parsed,
    Reply,
    Wire,
    decode_json,
    json_reply,
    refuse_twice,
)

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_DOCUMENT = msgspec.json.Decoder(dict[str, Any])
_PARQUET = b"application/vnd.apache.parquet"
_MAX_PARQUET = 256 << 20
_MAX_CELLS = 5_000_000
_MEDIA = (b"application/json", b"text/csv", _PARQUET)


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """A pandas DataFrame in its ``split`` orientation."""

    data: list[list[Any]]
    columns: list[str | int] | None = None
    index: list[Any] | None = None


class NumbersFrame(msgspec.Struct, forbid_unknown_fields=True):
    """A data frame of numbers only."""

    columns: list[str]
    data: list[list[float]]


class NumbersSplit(msgspec.Struct):
    """A request with such a data frame."""

    dataframe_split: NumbersFrame


_SPLIT = msgspec.json.Decoder(NumbersSplit)
_DATA = re.compile(rb'"data"\s*:\s*\[')


def parse(body: bytes, headers: Headers) -> Parsed:
    """Read a request in any of MLflow's input forms."""
    kind = _content_type(headers)
    if kind == b"text/csv":
        return Parsed(_read_csv(body), rules=MLFLOW)
    if kind == _PARQUET:
        return _parse_parquet(body)
    numbers = read_instances(body)
    if numbers is None:
        return _parse_split(body) or _parse_any(body)
    given = Given(rows=numbers.matrix, text=numbers.text)
    return Parsed(lambda plan: given if numbers.suits(plan) else _parse_any(body).read(plan), rules=MLFLOW)


def _parse_split(body: bytes) -> Parsed | None:
    """Read a data frame of numbers whose columns are the model's; nothing if it is anything else."""
    request = decode_or_none(_SPLIT, body)
    if request is None or body.count(b":") != 3:
        return None
    frame = request.dataframe_split
    mark = _DATA.search(body)
    end = body.find(b"]]", mark.end()) if mark else -1
    numbers = numbers_of_rows(frame.data, body[mark.end() : end]) if mark and end > 0 else None
    if numbers is None:
        return None
    given = Given(rows=numbers.matrix, text=numbers.text)

    def read(plan: Plan) -> Given:
        is_matrix = plan.is_numeric and frame.columns == list(plan.names) and numbers.suits(plan)
        return given if is_matrix else _parse_any(body).read(plan)

    return Parsed(read, rules=MLFLOW)


def _parse_any(body: bytes) -> Parsed:
    """Read JSON in any of the input forms."""
    document = _decode(body)
    present = [form for form in _FORMS if form in document]
    if len(present) != 1:
        raise BadRequest(f"the body must have exactly one of {', '.join(_FORMS)}; it has {len(present)}")
    form = present[0]
    refuse_twice(body, len(document) + _keys(document[form]))
    if form in ("instances", "inputs") and document.keys() - {form, "params"}:
        raise BadRequest(f"beside {form!r} only 'params' may be given")
    params = document.get("params")
    if params is not None and not isinstance(params, dict):
        raise BadRequest("'params' must be an object")
    return Parsed(_reader(form, document[form]), params=params, rules=MLFLOW)


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer ``{"predictions": …}``: a list, records for a table, an object of lists for several named arrays."""
    outputs = answer.outputs
    if (len(outputs.names) > 1 or outputs.is_named) and not outputs.is_frame:
        return json_reply({"predictions": lists(outputs)})
    return json_reply({"predictions": predictions(outputs)})


def fault(error: MainspringError) -> Reply:
    """Answer an error in MLflow's shape; 415 is plain text there."""
    if isinstance(error, UnsupportedMedia):
        return Reply(415, str(error).encode(), b"text/plain; charset=utf-8")
    return json_reply({"error_code": _code(error), "message": str(error)}, error.http_status)


class ModelInfo(msgspec.Struct, frozen=True):
    """What MLflow's deployments client knows of a model."""

    name: str
    provider: str = "mainspring"


class EndpointInfo(msgspec.Struct, frozen=True):
    """What MLflow's deployments client knows of an endpoint."""

    name: str
    model: ModelInfo
    endpoint_url: str
    endpoint_type: str = "mlflow/v1/invocations"
    limit: None = None


def describe(name: str) -> EndpointInfo:
    """Describe an endpoint for MLflow's deployments client."""
    return EndpointInfo(name, ModelInfo(name), f"/endpoints/{name}/invocations")


WIRE = Wire("mlflow", parse, render, fault)


def _code(error: MainspringError) -> str:
    """MLflow calls whatever is wrong with an input BAD_REQUEST."""
    return "BAD_REQUEST" if error.http_status == 400 else error.code


def _content_type(headers: Headers) -> bytes:
    """Return the media type; none at all is taken for JSON."""
    text = headers.get(b"content-type", b"application/json")
    if text == b"application/json":
        return text
    media, _, parameters = text.lower().partition(b";")
    media = media.strip()
    if media not in _MEDIA:
        raise UnsupportedMedia(
            "This content type is not read by /invocations.",
            hint="Send application/json, text/csv or application/vnd.apache.parquet.",
        )
    if parameters.strip() not in (b"", b"charset=utf-8", b'charset="utf-8"'):
        raise UnsupportedMedia("The only content type parameter that is read is charset=utf-8.")
    return media


def _decode(body: bytes) -> dict[str, Any]:
    """Decode JSON; take the NaN literals that MLflow's own client sends for missing values."""
    if b"NaN" not in body:
        return decode_json(_DOCUMENT, body)
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        return decode_json(_DOCUMENT, body)
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        msgspec.json.encode(document)
    except UnicodeEncodeError as error:
        raise BadRequest("the body has half of a Unicode surrogate pair") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    return document


def _keys(value: object) -> int:
    """Count the keys of an object, or of the objects in a list."""
    if isinstance(value, list):
        return sum(len(row) for row in value if type(row) is dict)
    return len(value) if isinstance(value, dict) else 0


def _reader(form: str, value: object) -> Callable[[Plan], Given]:
    if form == "dataframe_split":
        return _read_split(value)
    if form == "inputs":
        return lambda plan: _read_inputs(value, plan)
    if not isinstance(value, list):
        raise BadRequest(f"{form!r} must be a list of rows")
    if form == "dataframe_records" and not all(isinstance(row, dict) for row in value):
        raise BadRequest("'dataframe_records' must be a list of objects")
    given = Given(rows=value, form="table" if form == "dataframe_records" else "arrays")
    return lambda plan: given


def _read_split(value: object) -> Callable[[Plan], Given]:
    try:
        split = msgspec.convert(value, Split)
    except msgspec.ValidationError as error:
        raise BadRequest(f"'dataframe_split' is not a DataFrame: {str(error)[:300]}") from error
    columns = None if split.columns is None else [str(name) for name in split.columns]
    if columns is not None and len(set(columns)) != len(columns):
        raise BadRequest("'dataframe_split' names a column twice")

    def read(plan: Plan) -> Given:
        if plan.is_open:
            names = columns or [str(place) for place in range(len(split.data[0]) if split.data else 0)]
            return Given(matrix_to_columns(split.data, names), form="table")
        if columns is None or (len(columns) == len(plan.names) and tuple(columns) == plan.names):
            return Given(rows=split.data)
        if plan.tensors:
            return Given(rows=split.data)
        return Given(matrix_to_columns(split.data, columns))

    return read


def _read_inputs(value: object, plan: Plan) -> Given:
    """Read the column-oriented form: an object of lists; a bare list for a tensor, or where there is one column."""
    if plan.is_open:
        return _read_open(value)
    if isinstance(value, dict):
        return Given({name: values if isinstance(values, list) else [values] for name, values in value.items()})
    if plan.tensors:
        return Given(rows=value if isinstance(value, list) else [value])
    if isinstance(value, list) and (len(plan.names) == 1 or (value and isinstance(value[0], dict))):
        return Given(rows=value)
    if len(plan.names) == 1:
        return Given(rows=[value])
    raise BadRequest("'inputs' must be an object with one list per column")


def _read_open(value: object) -> Given:
    """Read ``inputs`` for a model without a signature: arrays by name, a list of objects, or one array."""
    if isinstance(value, dict):
        columns = {name: one if isinstance(one, list) else np.asarray(one) for name, one in value.items()}
        return Given(columns, form="arrays")
    return Given(rows=value, form="records") if isinstance(value, list) else Given({INPUT: np.asarray(value)})


def _read_csv(body: bytes) -> Callable[[Plan], Given]:
    try:
        lines = list(csv.reader(io.StringIO(body.decode()), strict=True))
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 (byte {error.start})") from error
    except csv.Error as error:
        raise BadRequest(f"the body is not CSV: {str(error)[:100]}") from error
    rows = [line for line in lines if line]
    if not rows or len(set(rows[0])) != len(rows[0]):
        raise BadRequest("the CSV needs a header line with each column once")

    def read(plan: Plan) -> Given:
        table = matrix_to_columns([[*row] for row in rows[1:]], rows[0])
        columns: Columns = {name: _cells(plan, name, texts) for name, texts in table.items()}
        if plan.is_open:
            return Given(columns, form="table")
        return Given(columns)

    return read


def _parse_parquet(body: bytes) -> Parsed:
    # Late: 40 MB, for clients that send Parquet.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pa.BufferReader(body)
        metadata = pq.read_metadata(source)
        size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
        if size > _MAX_PARQUET or metadata.num_rows * metadata.num_columns > _MAX_CELLS:
            raise TooLarge("The Parquet body is too large when it is unpacked.", hint="Send fewer rows per request.")
        table = pq.ParquetFile(source).read(use_threads=False)
        names = table.column_names
        columns = {name: table.column(name).to_pylist() for name in names if not name.startswith("__index_level_")}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise BadRequest("the body is not a Parquet file") from error
    if len(set(names)) != len(names):
        raise BadRequest("the Parquet body names a column twice")
    given = Given(columns, form="table")
    return Parsed(lambda plan: given, rules=MLFLOW)


def _cells(plan: Plan, name: str, texts: list[Any]) -> list[Any]:
    """Give the cells of a column the type the plan says; where it says none, the one that all of them have."""
    column = plan.by_name.get(name)
    if plan.is_open or (column is not None and column.type == "any"):
        return infer_cells(texts)
    return [_cell(text, column, is_tensor=bool(plan.tensors)) for text in texts]


def _cell(text: str, column: Column | None, *, is_tensor: bool) -> object:
    """Give a CSV cell its column's type; leave it as text for the validation to refuse if it has another."""
    if text == "":
        return None
    if column is None and not is_tensor:
        return text
    if column is not None and not column.is_number:
        return {"true": True, "false": False}.get(text.lower(), text) if column.type == "boolean" else text
    try:
        return float(text) if "." in text or "e" in text.lower() or "n" in text.lower() else int(text)
    except ValueError:
        return text
