"""What the protocols have in common: bytes in, columns out, a reply in the protocol's own shape."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgspec
from numpy.typing import NDArray

from mainspring.core import MainspringError
from mainspring.serving.faults import BadRequest, TooLarge, UnsupportedMedia
from mainspring.serving.models import LoadedModel
from mainspring.serving.plan import Plan
from mainspring.serving.validation import Columns

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
class Parsed:
    """A prediction request after its protocol has read it."""

    read: Callable[[Plan], Columns]
    """Return the columns; forms without names take them from the plan, in the signature's order."""
    id: str = ""
    """The request's id as the client wrote it into the body, if the protocol has one."""
    binary_output: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and which model of which endpoint said it."""

    id: str
    endpoint: str
    model: LoadedModel
    outputs: NDArray[Any]


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
