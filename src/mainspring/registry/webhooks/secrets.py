"""Secrets of webhooks at rest: encrypted with a key that is not in the database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.core import Corrupt, InvalidInput

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY_FILE = "webhook.key"


class SecretBox:
    """Encrypts and decrypts with the key in a file, which is made when it is first needed (mode 0600)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / KEY_FILE

    def seal(self, secret: str) -> str:
        """Return the secret as it is stored; an empty one stays empty."""
        return self._open().encrypt(secret.encode()).decode() if secret else ""

    def reveal(self, sealed: str) -> str:
        """Return the secret; raise `Corrupt` if it was sealed with another key."""
        if not sealed:
            return ""
        from cryptography.fernet import InvalidToken

        try:
            return self._open().decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise Corrupt(
                "The secret of a webhook was encrypted with another key.",
                hint=f"Bring {KEY_FILE} back, or set it anew.",
            ) from error

    def _open(self) -> Fernet:
        try:
            from cryptography.fernet import Fernet
        except ModuleNotFoundError as error:
            raise InvalidInput("Webhooks with a secret need a package.", hint="pip install cryptography") from error
        if not self._path.exists():
            self._write(Fernet.generate_key())
        return Fernet(self._path.read_bytes().strip())

    def _write(self, key: bytes) -> None:
        """Make the key file unless another process is faster."""
        aside = self._path.with_name(f"{KEY_FILE}.{os.getpid()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, self._path)
        except FileExistsError:
            return
        finally:
            aside.unlink()
