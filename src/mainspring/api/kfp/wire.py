"""How the API writes things: calls, times, errors, pages, filters, uploaded files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, TypeVar

import msgspec

from mainspring.core import InvalidInput, MainspringError, to_datetime

LARGEST_BODY = 64 * 1024 * 1024
_LARGEST_PIPELINE = 32 * 1024 * 1024
_LARGEST_PAGE = 200
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 413: 3, 501: 12, 503: 14}
"""The numbers of gRPC, by HTTP status."""

Item = TypeVar("Item")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request: what is in its path, its query and its body."""

    path: dict[str, str]
    query: dict[str, str]
    content_type: str
    body: bytes

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object; raise `InvalidInput` when it is none."""
        try:
            return msgspec.json.decode(self.body or b"{}", type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"The body is not a JSON object: {error}.") from error


def describe_error(error: MainspringError, status: int) -> dict[str, Any]:
    """Return an error as the API writes it."""
    code = _CODES.get(status, 13)
    return {"error": str(error), "code": code, "message": str(error), "details": []}


def moment(ms: int | None) -> str | None:
    """Return a time as the API writes it, RFC 3339 in UTC."""
    return None if ms is None else to_datetime(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def without_empty(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what has no value, as protobuf's JSON does."""
    return {name: value for name, value in document.items() if value not in (None, "", [], {})}


def text_field(document: dict[str, Any], name: str, default: str = "") -> str:
    """Return a text of a body; raise `InvalidInput` when it is something else."""
    value = document.get(name, default)
    if value is None:
        return default
    if not isinstance(value, str):
        raise InvalidInput(f"The field {name} is {type(value).__name__}, not a text.")
    return value


def object_field(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object of a body, empty when there is none; raise `InvalidInput` when it is something else."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"The field {name} is {type(value).__name__}, not an object.")
    return value


def page_of(call: Call, items: Sequence[Item]) -> tuple[list[Item], str]:
    """Return the page that a call asks for, and the token of the next one (empty for the last)."""
    try:
        start = int(call.query.get("page_token") or 0)
        size = int(call.query.get("page_size") or 20)
    except ValueError as error:
        raise InvalidInput("The page token or the page size is not a number.") from error
    if start < 0 or size < 0:
        raise InvalidInput("The page token or the page size is negative.")
    end = start + min(size or 20, _LARGEST_PAGE)
    return list(items[start:end]), str(end) if end < len(items) else ""


def wanted_name(call: Call) -> str | None:
    """Return the name a filter asks for; raise `InvalidInput` for a filter that asks for anything else."""
    text = call.query.get("filter")
    if not text:
        return None
    try:
        predicates = msgspec.json.decode(text)["predicates"]
        [predicate] = predicates
        operation, key = predicate["operation"], predicate["key"]
        value = predicate.get("stringValue", predicate.get("string_value"))
    except (msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
        raise InvalidInput("The filter cannot be read.", hint="Filter by one name: EQUALS display_name.") from error
    if operation not in ("EQUALS", 1) or key not in ("display_name", "name") or not isinstance(value, str):
        raise InvalidInput(f"A filter by {key} {operation} is not known.", hint="Filter by EQUALS display_name.")
    return value


def uploaded_file(call: Call) -> tuple[str, bytes]:
    """Return the name and the bytes of the file in a multipart body; raise `InvalidInput` when there is none."""
    if not call.content_type.startswith("multipart/form-data"):
        raise InvalidInput("The body is not an upload.", hint="Send multipart/form-data with uploadfile.")
    header = f"Content-Type: {call.content_type}\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=HTTP).parsebytes(header + call.body)
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == "uploadfile":
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                return part.get_filename() or "pipeline.yaml", content
    raise InvalidInput("The upload holds no file.", hint="Send it as uploadfile.")


def pipeline_file(name: str, content: bytes) -> bytes:
    """Return the compiled pipeline in an uploaded file: itself, or the one YAML file in an archive."""
    try:
        if name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                members = {item.name: item.size for item in archive if item.isfile()}
                chosen = archive.extractfile(_choose(members))
                return chosen.read(_LARGEST_PIPELINE) if chosen else b""
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                chosen_name = _choose({item.filename: item.file_size for item in packed.infolist()})
                return packed.read(chosen_name)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise InvalidInput(f"The package {name} cannot be unpacked: {error}.") from error
    return content


def _choose(members: dict[str, int]) -> str:
    found = [name for name in members if name.endswith((".yaml", ".yml"))]
    if len(found) != 1:
        raise InvalidInput(f"The package holds {len(found)} YAML files, not one.")
    if members[found[0]] > _LARGEST_PIPELINE:
        raise InvalidInput(f"The pipeline in the package is larger than {_LARGEST_PIPELINE} bytes.")
    return found[0]
