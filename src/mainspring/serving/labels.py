"""Ground truth that arrives over HTTP or in files: checked, then appended before it is acknowledged."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from mainspring.serving.faults import BadRequest, show
from mainspring.serving.records import LabelRecord, key_text
from mainspring.serving.wire import decode_json

_MAX_COLUMN = 200
_MAX_VALUE = 200
_ROW_ID = re.compile(r"[A-Za-z0-9._-]{1,64}:[0-9]{1,9}")


class LabelsRequest(msgspec.Struct):
    """The body of ``POST /v1/endpoints/E/labels``; entries are checked one by one."""

    labels: list[dict[str, object]]


_REQUEST = msgspec.json.Decoder(LabelsRequest)


def read_label_request(body: bytes, received_at: int) -> list[LabelRecord]:
    """Turn the body into label records; every bad entry is named by its index."""
    return read_label_entries(decode_json(_REQUEST, body).labels, received_at)


def read_label_entries(entries: Sequence[dict[str, object]], received_at: int) -> list[LabelRecord]:
    """Turn entries into label records.

    An entry has ``label`` and ``time`` (when it became known), and either ``id``, ``<request id>:<row>``, or ``key``,
    one column with its value, and ``at``, the moment the prediction was for.
    """
    problems = [f"label {index}: {problem}" for index, entry in enumerate(entries) if (problem := _problem(entry))]
    if problems:
        raise BadRequest(problems)
    return [_record(entry, received_at) for entry in entries]


def _record(entry: dict[str, object], received_at: int) -> LabelRecord:
    label, time = _number(entry["label"]), int(_number(entry["time"]))
    if "id" in entry:
        return LabelRecord(id=str(entry["id"]), label=label, time=time, received_at=received_at)
    key = entry["key"]
    assert isinstance(key, dict)
    ((column, value),) = key.items()
    at = int(_number(entry["at"]))
    return LabelRecord(label=label, time=time, received_at=received_at, column=column, value=key_text(value), at=at)


def _problem(entry: dict[str, object]) -> str:
    """Return what is wrong with one entry, or nothing."""
    if ("id" in entry) == ("key" in entry):
        return "id or key must be given, one of the two"
    missing = [key for key in ("label", "time", *(("at",) if "key" in entry else ())) if key not in entry]
    if missing:
        return f"{', '.join(missing)} missing"
    wrong = _id_problem(entry["id"]) if "id" in entry else _key_problem(entry["key"])
    if wrong:
        return wrong
    if not _is_finite(entry["label"]):
        return f"label must be a number, got {show(entry['label'])}"
    for name in ("time", "at"):
        if name in entry and not _is_time(entry[name]):
            return f"{name} must be milliseconds since the epoch, got {show(entry[name])}"
    return ""


def _id_problem(row_id: object) -> str:
    if not isinstance(row_id, str) or not _ROW_ID.fullmatch(row_id):
        return f"id must be '<request id>:<row>', got {show(row_id)}"
    return ""


def _key_problem(key: object) -> str:
    if not isinstance(key, dict) or len(key) != 1:
        return f"key must be an object with one column and its value, got {show(key)}"
    ((column, value),) = key.items()
    if not column or len(column) > _MAX_COLUMN:
        return "the column of the key is not a name"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"the value of the key must be a text or a number, got {show(value)}"
    if not isinstance(value, str) and not abs(value) < 2**63:
        return f"the value of the key is out of range, got {show(value)}"
    return "the value of the key is too long" if len(str(value)) > _MAX_VALUE else ""


def _is_time(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 2**1023 and math.isfinite(value)


def _number(value: object) -> float:
    assert isinstance(value, (int, float))
    return value
