"""Ground truth that arrives over HTTP: checked, then appended before it is acknowledged."""

from __future__ import annotations

import math
import re

import msgspec

from mainspring.serving.faults import BadRequest, show
from mainspring.serving.records import LabelRecord
from mainspring.serving.wire import decode_json

_ROW_ID = re.compile(r"[A-Za-z0-9._-]{1,64}:[0-9]{1,9}")


class LabelsRequest(msgspec.Struct):
    """The body of ``POST /v1/endpoints/E/labels``; entries are checked one by one."""

    labels: list[dict[str, object]]


_REQUEST = msgspec.json.Decoder(LabelsRequest)


def read_label_request(body: bytes, received_at: int) -> list[LabelRecord]:
    """Turn the body into label records; every bad entry is named by its index."""
    entries = decode_json(_REQUEST, body).labels
    problems = [f"label {index}: {problem}" for index, entry in enumerate(entries) if (problem := _problem(entry))]
    if problems:
        raise BadRequest(problems)
    return [
        LabelRecord(
            id=str(entry["id"]),
            label=_number(entry["label"]),
            time=int(_number(entry["time"])),
            received_at=received_at,
        )
        for entry in entries
    ]


def _problem(entry: dict[str, object]) -> str:
    """Return what is wrong with one entry, or nothing."""
    missing = [key for key in ("id", "label", "time") if key not in entry]
    if missing:
        return f"{', '.join(missing)} missing"
    row_id, label, time = entry["id"], entry["label"], entry["time"]
    if not isinstance(row_id, str) or not _ROW_ID.fullmatch(row_id):
        return f"id must be '<request id>:<row>', got {show(row_id)}"
    if not _is_finite(label):
        return f"label must be a number, got {show(label)}"
    if not isinstance(time, int) or isinstance(time, bool) or not 0 <= time < 2**53:
        return f"time must be milliseconds since the epoch, got {show(time)}"
    return ""


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 2**1023 and math.isfinite(value)


def _number(value: object) -> float:
    assert isinstance(value, (int, float))
    return value
