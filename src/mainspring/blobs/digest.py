"""Names of bytes: ``sha256:`` and 64 hexadecimal digits."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from mainspring.core import InvalidInput

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")
CHUNK = 1 << 20


def digest_of(data: bytes) -> str:
    """Return the digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(digest: str) -> str:
    """Return the digest's 64 hexadecimal digits; raise `InvalidInput` if it is not one."""
    if not _PATTERN.fullmatch(digest):
        raise InvalidInput(f"{digest[:100]!r} is not a digest.", hint="A digest reads sha256: and 64 hex digits.")
    return digest.removeprefix("sha256:")
