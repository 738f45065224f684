"""What the protocols have in common: bytes in, columns out, a reply in the protocol's own shape."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core import Foreign, MainspringError
from mainspring.serving.checked import Form
from mainspring.serving.faults import BadRequest, TooLarge, UnsupportedMedia, show
from mainspring.serving.models import LoadedModel
from mainspring.serving.outputs import Outputs
from mainspring.serving.plan import Plan
from mainspring.serving.unsigned import take
from mainspring.serving.validation import STRICT, Checked, Columns, Rules, check, check_rows, rows_to_columns

T = TypeVar("T")
Headers: TypeAlias = Mapping[bytes, bytes]
"""Request headers by lower-case name; of repeated ones the last."""

JSON = b"application/json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, ready to send."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """What a request holds, read but not checked: columns (or tensors) by name, or rows."""

    columns: Columns | None = None
    rows: Sequence[Any] | NDArray[Any] = ()
    form: Form | None = None
    """What a model without a signature gets of it; none leaves it to the values."""
    text: bytes = b""
    """The numbers of the rows as they were sent, separated by commas, where there are only numbers: for the log."""

    def check(self, plan: Plan, rules: Rules, params: Mapping[str, object]) -> Checked:
        """Return what the model gets; raise `BadRequest` with everything that is wrong."""
        if plan.is_open:
            return take(self.columns, self.rows, self.form)
        if self.columns is None:
            return check_rows(plan, self.rows, rules, params)
        return check(plan, self.columns, len(next(iter(self.columns.values()), [])), rules, params)

    def to_columns(self, plan: Plan) -> Columns | None:
        """Return the columns as the client sent them, for the log; nothing if the rows do not make any."""
        if self.columns is not None:
            return self.columns
        try:
            return rows_to_columns(self.rows.tolist() if isinstance(self.rows, np.ndarray) else self.rows, plan)
        except BadRequest:
            return None

    def first(self, name: str, plan: Plan) -> object:
        """Return a column's value in the first row; None if it has none."""
        if self.columns is None and len(self.rows) and isinstance(self.rows[0], dict):
            return self.rows[0].get(name)
        values = (self.to_columns(plan) or {}).get(name, [])
        if isinstance(values, np.ndarray) and values.ndim == 0:
            return values.item()
        return values[0] if len(values) else None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A prediction request after its protocol has read it."""

    read: Callable[[Plan], Given]
    """Return what was sent; forms without names take them from the plan, in the signature's order."""
    id: str = ""
    """The request's id as the client wrote it into the body, if the protocol has one."""
    params: Mapping[str, object] | None = None
    rules: Rules = STRICT
    outputs: tuple[str, ...] = ()
    """Outputs the client asks for by name; none means what the model predicts."""
    binary: bool = False
    """Whether outputs are sent as bytes, unless the next says otherwise for one of them."""
    binary_by_name: Mapping[str, bool] = field(default_factory=dict)
    timeout_ms: float = 0.0
    """The time the client gives the answer; 0 leaves it to the operator."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and which model of which endpoint said it."""

    id: str
    endpoint: str
    model: LoadedModel
    outputs: Outputs


@dataclass(frozen=True, slots=True)
class Wire:
    """A protocol: how to read a request, and how to write an answer or a fault."""

    name: str
    parse: Callable[[bytes, Headers], Parsed]
    render: Callable[[Parsed, Answer], Reply]
    fault: Callable[[MainspringError], Reply]


def json_reply(document: object, status: int = 200) -> Reply:
    """Make a JSON reply."""
    return Reply(status, _encode(document))


def error_reply(error: MainspringError) -> Reply:
    """Make the ``{"error": …}`` reply that V1 and V2 share."""
    return json_reply({"error": str(error)}, error.http_status)


def decode_json(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode strict JSON; whatever is wrong with the text is a `BadRequest` that says where."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not what this route reads: {str(error)[:300]}") from error
    except msgspec.DecodeError as error:
        nan = b"NaN" in body or b"Infinity" in body
        hint = "Send null for a missing value: NaN and Infinity are not JSON." if nan else ""
        raise BadRequest(f"the body is not JSON: {str(error)[:200]}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error


def refuse_twice(body: bytes, keys: int) -> None:
    """Refuse JSON objects that have a key twice; ``keys`` is how many the decoded document has.

    Every key has its colon: where the body has no more colons than that, none can be there twice, and only a body
    with more (times, addresses) needs a closer look.
    """
    if body.count(b":") == keys:
        return
    try:
        json.loads(body, object_pairs_hook=_once)
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except ValueError as error:
        raise BadRequest("the body is not JSON") from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"the key {show(twice)} is given twice in one object")
    return found


def plain(values: NDArray[Any]) -> list[Any]:
    """Return an array's values as JSON knows them; bytes become base64 in the encoder, times ISO 8601 as pandas has it.

    An array without dimensions is one value.
    """
    kind = values.dtype.kind
    found: list[Any] = (values.astype("datetime64[us]") if kind == "M" else values).tolist()
    return [_plain_value(value) for value in found] if kind in "OM" and values.ndim else found


def _plain_value(value: Foreign) -> object:  # whatever a model answers
    """Return a value without anything of numpy or pandas in it."""
    if isinstance(value, list | tuple):
        return [_plain_value(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain_value(one) for name, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(np.asarray(value))
    if isinstance(value, datetime):
        return value.isoformat() if value == value else None  # noqa: PLR0124 - a time that is missing
    return None if type(value).__name__ == "NAType" else value


def usable_id(*candidates: str) -> str:
    """Return the first candidate that can be a request id, or nothing."""
    return next((text for text in candidates if _REQUEST_ID.fullmatch(text)), "")


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo a Content-Encoding without ever holding more than ``limit`` bytes."""
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"deflate"):
        raise UnsupportedMedia("This content encoding is not read here.", hint="Use gzip, deflate or none.")
    raw_deflate = encoding == b"deflate" and not (body[:1] == b"\x78" and int.from_bytes(body[:2], "big") % 31 == 0)
    inflater = zlib.decompressobj(-15 if raw_deflate else 47)
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest("the compressed body is damaged") from error
    if len(data) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes when it is inflated.")
    if not inflater.eof or inflater.unused_data:
        raise BadRequest("the compressed body is cut off or has bytes after its end")
    return data
