"""Keep personal columns out of the prediction log: left out, or replaced by a keyed hash.

A hash says "the same person as before" to whoever reads the log, and nothing else without the project's key: it is
HMAC-SHA-256, cut to 128 bits. Both happen before a record is written, to refused requests as well, whose error
messages no longer show the values either.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from mainspring.core import Corrupt
from mainspring.serving.deployment import write_atomically
from mainspring.serving.faults import BadRequest, show
from mainspring.serving.records import LabelRecord, PredictionRecord, key_text

SPLIT_KEY = "@split_key"
"""Stands for the record's split key in the lists of columns."""
_KEY_BYTES = 32
_MAX_KNOWN = 10_000
Treatment: TypeAlias = Literal["keep", "hash", "drop"]
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Redaction:
    """Takes the personal columns, named in any case, out of records."""

    def __init__(self, redacted: Iterable[str], hashed: Iterable[str], key: bytes) -> None:
        self.redacted = frozenset(map(_normal, redacted))
        self.hashed = frozenset(map(_normal, hashed)) - self.redacted
        self._hidden = sorted(self.redacted | self.hashed)
        self._key = key
        self._known: dict[str, Treatment] = {}
        """What to do with the columns seen so far, as they were spelt."""

    def __call__(self, record: PredictionRecord) -> PredictionRecord:
        """Return the record as it may be written."""
        changes: dict[str, Any] = {"hidden": self._hidden}
        if record.inputs is not None:
            changes["inputs"] = self._clean_inputs(record.inputs)
        if record.validation_errors:
            changes["validation_errors"] = [self._clean(problem) for problem in record.validation_errors]
        if record.split_key and (treatment := self._treat(SPLIT_KEY)) != "keep":
            changes["split_key"] = "" if treatment == "drop" else self._hash(record.split_key)
        return msgspec.structs.replace(record, **changes)

    def _clean_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for name, values in inputs.items():
            treatment = self._known.get(name) or self._treat(name)
            if treatment == "keep":
                cleaned[name] = values
            elif treatment == "hash":
                cleaned[name] = [self._hash(value) for value in _listed(values)]
        return cleaned

    def _treat(self, name: str) -> Treatment:
        """Return what to do with a column, and remember it: clients send few spellings of few names."""
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        normal = _normal(name)
        found: Treatment = "drop" if normal in self.redacted else "hash" if normal in self.hashed else "keep"
        self._known[name] = found
        return found

    def clean_label(self, label: LabelRecord) -> LabelRecord:
        """Return a label as it may be written: the value of a key is hidden as the column's values are."""
        treatment = self._treat(label.column) if label.column else "keep"
        if treatment == "keep":
            return label
        if treatment == "drop":
            raise BadRequest(f"column {show(label.column)} is not logged, so no prediction is found by it")
        return msgspec.structs.replace(label, value=str(self._hash(label.value)))

    def _hash(self, value: object) -> object:
        """Hash one value, by its text; a missing one stays missing."""
        if value is None:
            return None
        data = key_text(value).encode() if isinstance(value, str | int | float) else _encode(value)
        return "hmac:" + hmac.digest(self._key, data, "sha256")[:16].hex()

    def _clean(self, problem: str) -> str:
        """Return an error message without the values of the columns it may be about."""
        lowered = problem.casefold()
        hit = next((name for name in self._hidden if name in lowered), None)
        return problem if hit is None else f"column {hit!r} is not valid (its values are not logged)"


def make_redaction(redacted: Sequence[str], hashed: Sequence[str], key: bytes) -> Redaction | None:
    """Return what to do with every record; None if there is nothing personal in it."""
    if not redacted and not hashed:
        return None
    return Redaction(redacted, hashed, key)


def project_key(endpoint_folder: Path) -> bytes:
    """Return the project's key for hashes, making it if it is new.

    The endpoints of a project share one, beside their folders; an endpoint with a folder of its own has its own. Take
    care of it: without it no hash can be matched to a person again, and that is the way to forget everybody at once.
    """
    home = endpoint_folder.resolve()
    path = (home.parent if home.parent.name == "endpoints" else home) / "privacy.key"
    if not path.exists():
        _make_key(path)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise Corrupt(f"The key {path} has {len(key)} bytes, not {_KEY_BYTES}.", hint="Restore it from a backup.")
    return key


def _make_key(path: Path) -> None:
    """Write a new key that only its owner can read; of several processes that try at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    write_atomically(aside, os.urandom(_KEY_BYTES))
    aside.chmod(0o600)
    try:
        os.link(aside, path)
    except FileExistsError:
        pass  # somebody else's, made a moment ago: use that one
    finally:
        aside.unlink()


def _normal(column: str) -> str:
    """Names that differ in case or in blanks around them are one column: a client that misspells it hides nothing."""
    return column.strip().casefold()


def _listed(values: object) -> list[object]:
    plain = values.tolist() if hasattr(values, "tolist") else values
    return plain if isinstance(plain, list) else [plain]
