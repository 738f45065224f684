"""Plain questions to an API elsewhere: one GET, one JSON object, and one line that says why there is none.

For what its own client cannot be asked, or answers with five tracebacks. Nothing is followed to another address: a
redirection is how a proxy asks for a login.
"""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import msgspec

from mainspring.core import InvalidInput, NotFound, Refused, Unavailable

_SECONDS = 20.0
_LARGEST = 16 * 1024 * 1024


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where an API is (``http`` or ``https``), the token it is asked with, and how one gets another."""

    host: str
    token: str = ""
    login: str = ""

    def get(self, path: str) -> dict[str, Any]:
        """Return what the API has at a path below ``apis/v2beta1``; raise a `MainspringError` when it has nothing."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = Request(f"{self.host.rstrip('/')}/apis/v2beta1/{path}", headers=headers)  # noqa: S310 - checked
        try:
            with build_opener(ProxyHandler({}), _Stay).open(request, timeout=_SECONDS) as answer:
                return msgspec.json.decode(answer.read(_LARGEST), type=dict[str, Any])
        except HTTPError as error:
            raise self._explain(error.code, path) from error
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise Unavailable(
                f"{self.host} does not answer: {reason}.", hint="Check the host, and whether the port is forwarded."
            ) from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f"{self.host} answers, but not as Kubeflow Pipelines does.", hint="Check the host: it is the API's."
            ) from error

    def _explain(self, status: int, path: str) -> Refused | NotFound | InvalidInput | Unavailable:
        if status in (401, 403) or 300 <= status < 400:
            return Refused(
                f"{self.host} asks for a login ({status}): the token is missing or expired.", hint=self.login
            )
        if status == 404:
            return NotFound(f"{self.host} has no {path}.", hint="Check the host: it is the one of the API.")
        if status < 500:
            return InvalidInput(f"{self.host} does not take the request for {path} ({status}).")
        return Unavailable(f"{self.host} fails with status {status}.", hint="Try again, or look at its log.")


class _Stay(HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_: object) -> None:
        return None
