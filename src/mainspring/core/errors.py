"""The one error type, and how it maps to exit statuses and HTTP statuses.

Every error a person can cause is a `MainspringError`: a stable ``code``, one line that says what
happened with the value in it, and a ``hint`` that says what to do next. The command line prints both and
leaves with ``exit_status``; the HTTP layers answer ``http_status`` in their protocol's own shape.
"""

from __future__ import annotations


class MainspringError(Exception):
    """Something a person can understand and act on."""

    code = "INTERNAL_ERROR"
    exit_status = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidInput(MainspringError):
    """A value, file or request is not what it has to be."""

    code = "INVALID_PARAMETER_VALUE"
    exit_status = 2
    http_status = 400


class NotFound(MainspringError):
    """The named thing does not exist."""

    code = "RESOURCE_DOES_NOT_EXIST"
    exit_status = 3
    http_status = 404


class AlreadyExists(MainspringError):
    """The name is taken."""

    code = "RESOURCE_ALREADY_EXISTS"
    exit_status = 4
    http_status = 400


class Conflict(MainspringError):
    """The thing exists but is in a state that forbids this."""

    code = "INVALID_STATE"
    exit_status = 4
    http_status = 400


class Corrupt(MainspringError):
    """Stored bytes do not match their digest, or a stored record cannot be read."""

    code = "DATA_CORRUPTION"
    exit_status = 5
    http_status = 500


class Unavailable(MainspringError):
    """A part that is needed is not there: a port, a server, an extra that is not installed."""

    code = "TEMPORARILY_UNAVAILABLE"
    exit_status = 6
    http_status = 503


class Refused(MainspringError):
    """A check said no: an anomaly stopped a pipeline, a gate refused a model, a policy forbids it."""

    code = "REFUSED"
    exit_status = 7
    http_status = 403
