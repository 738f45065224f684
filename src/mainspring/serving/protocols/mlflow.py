"""MLflow's scoring protocol 2.x: ``POST /invocations``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import msgspec

from mainspring.core import MainspringError
from mainspring.serving.faults import BadRequest, UnsupportedMedia
from mainspring.serving.plan import Column, Plan
from mainspring.serving.validation import Columns, matrix_to_columns, rows_to_columns
from mainspring.serving.wire import Answer, Headers, Parsed, Reply, Wire, decode_json, json_reply

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_DOCUMENT = msgspec.json.Decoder(dict[str, Any])


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """A pandas DataFrame in its ``split`` orientation."""

    data: list[list[Any]]
    columns: list[str] | None = None
    index: list[Any] | None = None


def parse(body: bytes, headers: Headers) -> Parsed:
    """Read a request in any of MLflow's input forms."""
    kind = _content_type(headers)
    if kind == b"text/csv":
        return Parsed(_read_csv(body))
    document = _decode(body)
    present = [form for form in _FORMS if form in document]
    if len(present) != 1:
        raise BadRequest(f"the body must have exactly one of {', '.join(_FORMS)}; it has {len(present)}")
    form = present[0]
    if form in ("instances", "inputs") and document.keys() - {form, "params"}:
        raise BadRequest(f"beside {form!r} only 'params' may be given")
    value = document[form]
    if form == "dataframe_split":
        return _parse_split(value)
    if form == "inputs":
        return Parsed(lambda plan: _read_inputs(value, plan))
    if not isinstance(value, list):
        raise BadRequest(f"{form!r} must be a list of rows")
    return Parsed(lambda plan: rows_to_columns(value, plan))


def render(parsed: Parsed, answer: Answer) -> Reply:
    """Answer ``{"predictions": […]}``."""
    return json_reply({"predictions": answer.outputs.tolist()})


def fault(error: MainspringError) -> Reply:
    """Answer an error in MLflow's shape; 415 is plain text there."""
    if isinstance(error, UnsupportedMedia):
        return Reply(415, str(error).encode(), b"text/plain; charset=utf-8")
    return json_reply({"error_code": error.code, "message": str(error)}, error.http_status)


WIRE = Wire("mlflow", parse, render, fault)


def _content_type(headers: Headers) -> bytes:
    """Return the media type; none at all is taken for JSON."""
    media, _, parameters = headers.get(b"content-type", b"application/json").lower().partition(b";")
    media = media.strip()
    if media not in (b"application/json", b"text/csv"):
        raise UnsupportedMedia(
            "This content type is not read by /invocations.", hint="Send application/json or text/csv."
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
    return document


def _parse_split(value: object) -> Parsed:
    try:
        split = msgspec.convert(value, Split)
    except msgspec.ValidationError as error:
        raise BadRequest(f"'dataframe_split' is not a DataFrame: {str(error)[:300]}") from error
    if split.columns is not None and len(set(split.columns)) != len(split.columns):
        raise BadRequest("'dataframe_split' names a column twice")
    return Parsed(lambda plan: matrix_to_columns(split.data, split.columns or plan.names))


def _read_inputs(value: object, plan: Plan) -> Columns:
    """Read the column-oriented form: an object of lists; a bare list only where there is one column."""
    if isinstance(value, dict):
        return {name: values if isinstance(values, list) else [values] for name, values in value.items()}
    if isinstance(value, list) and (len(plan.names) == 1 or (value and isinstance(value[0], dict))):
        return rows_to_columns(value, plan)
    raise BadRequest("'inputs' must be an object with one list per column")


def _read_csv(body: bytes) -> Callable[[Plan], Columns]:
    try:
        lines = list(csv.reader(io.StringIO(body.decode()), strict=True))
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 (byte {error.start})") from error
    except csv.Error as error:
        raise BadRequest(f"the body is not CSV: {str(error)[:100]}") from error
    rows = [line for line in lines if line]
    if not rows or len(set(rows[0])) != len(rows[0]):
        raise BadRequest("the CSV needs a header line with each column once")

    def read(plan: Plan) -> Columns:
        table = matrix_to_columns([[*row] for row in rows[1:]], rows[0])
        return {name: [_cell(str(text), plan.by_name.get(name)) for text in texts] for name, texts in table.items()}

    return read


def _cell(text: str, column: Column | None) -> object:
    """Give a CSV cell its column's type; leave it as text for the validation to refuse if it has another."""
    if text == "":
        return None
    if column is None or column.type == "string":
        return text
    if column.type == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return float(text) if "." in text or "e" in text.lower() or "n" in text.lower() else int(text)
    except ValueError:
        return text
