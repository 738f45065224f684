"""What a request can do wrong. Each protocol gives these its own shape; none of them echoes the input."""

from __future__ import annotations

from collections.abc import Sequence

from mainspring.core import InvalidInput, Unavailable

MAX_PROBLEMS = 20
_MAX_TEXT = 2_000
_WORDS = {None: "null", True: "true", False: "false"}


class BadRequest(InvalidInput):
    """The request cannot be answered; ``problems`` has one sentence per field and rule."""

    def __init__(self, problems: str | Sequence[str], *, hint: str = "") -> None:
        self.problems = bound([problems] if isinstance(problems, str) else list(problems))
        super().__init__("; ".join(self.problems)[:_MAX_TEXT], hint=hint)


class TooLarge(InvalidInput):
    """The body is larger than the endpoint reads."""

    http_status = 413


class UnsupportedMedia(InvalidInput):
    """The content type or encoding is not one the route reads."""

    http_status = 415


class TooSlow(InvalidInput):
    """The client did not send its body in time."""

    http_status = 408


class BadHttp(InvalidInput):
    """The bytes are not an HTTP request that can be read in only one way."""


class HeadTooLarge(InvalidInput):
    """The request line or the headers are larger than the endpoint reads."""

    http_status = 431


class Overloaded(Unavailable):
    """There is more to do than may wait: come back later."""


class TooLate(Unavailable):
    """The time the client, or the operator, gave the answer has passed."""

    code = "DEADLINE_EXCEEDED"
    http_status = 504


class ModelFailed(Unavailable):
    """The model cannot predict, whoever asks; its own words are only in the endpoint's log."""

    code = "MODEL_FAILED"


class WrongMethod(InvalidInput):
    """The route exists, with another method."""

    http_status = 405


class Unauthorized(InvalidInput):
    """The bearer token is missing or wrong."""

    http_status = 401


def bound(problems: list[str]) -> list[str]:
    """Keep the first problems and say how many more there are."""
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more"]


def show(value: object) -> str:
    """Show a value in an error: short, whatever it is."""
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge integer"
    return repr(value)[:40]
