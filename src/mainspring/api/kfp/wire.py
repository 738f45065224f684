"""How the API writes things: calls, times, errors, pages, filters, uploaded files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import msgspec

from mainspring.core import InvalidInput, to_datetime

LARGEST_BODY = 64 * 1024 * 1024
_LARGEST_PIPELINE = 32 * 1024 * 1024
_LONGEST_TEXT = 65_536


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request: what is in its path, its query and its body."""

    path: dict[str, str]
    query: dict[str, str]
    content_type: str
    body: bytes

    def text(self, name: str, longest: int = _LONGEST_TEXT) -> str:
        """Return a text of the query, empty when there is none; raise `InvalidInput` when it cannot be kept."""
        return fitting_text(self.query.get(name, ""), name, longest)

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object; raise `InvalidInput` when it is none."""
        try:
            return msgspec.json.decode(self.body or b"{}", type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"The body is not a JSON object: {error}.") from error


def describe_error(message: str, code: int) -> dict[str, Any]:
    """Return an error as the API writes it: google.rpc.Status, with the message as ``error``, too."""
    return {"error": message, "code": code, "message": message, "details": []}


def moment(ms: int | None) -> str | None:
    """Return a time as the API writes it, RFC 3339 in UTC."""
    return None if ms is None else to_datetime(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def without_empty(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what has no value, as protobuf's JSON does."""
    return {name: value for name, value in document.items() if value not in (None, "", [], {})}


def text_field(document: dict[str, Any], name: str, longest: int = _LONGEST_TEXT) -> str:
    """Return a text of a body, empty when there is none; raise `InvalidInput` when it is something else."""
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f"The field {name} is {type(value).__name__}, not a text.")
    return fitting_text(value, name, longest)


def object_field(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object of a body, empty when there is none; raise `InvalidInput` when it is something else."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"The field {name} is {type(value).__name__}, not an object.")
    return value


def fitting_text(text: str, name: str, longest: int) -> str:
    """Return a text that a database can keep; raise `InvalidInput` when it is too long or holds a null character."""
    if "\x00" in text or len(text) > longest:
        what = "holds a null character" if "\x00" in text else f"has {len(text)} characters, more than {longest}"
        raise InvalidInput(f"The field {name} {what}.", hint="Send another.")
    return text


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
