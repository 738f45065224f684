"""Errors in MLflow's shape: ``{"error_code": …, "message": …}``, with codes its client knows.

The client repeats a request for minutes when it is answered 500 or 503, so what repeating cannot mend is a 4xx.
"""

from __future__ import annotations

import msgspec

from mainspring.core import MainspringError

_KNOWN = {"DATA_CORRUPTION": ("DATA_LOSS", 422), "REFUSED": ("PERMISSION_DENIED", 403)}


class UnknownEndpoint(MainspringError):
    """There is nothing at this address."""

    code = "ENDPOINT_NOT_FOUND"
    http_status = 404


class NotSupported(MainspringError):
    """MLflow has this, mainspring does not."""

    code = "NOT_IMPLEMENTED"
    http_status = 501


class FeatureDisabled(MainspringError):
    """A whole family of MLflow's endpoints that this server leaves out."""

    code = "FEATURE_DISABLED"
    http_status = 400


class Unauthenticated(MainspringError):
    """The token is missing or wrong."""

    code = "UNAUTHENTICATED"
    http_status = 401


class TooLarge(MainspringError):
    """The body is larger than it may be."""

    code = "INVALID_PARAMETER_VALUE"
    http_status = 413


def describe_error(error: MainspringError) -> tuple[int, bytes]:
    """Return the status and the JSON body of an error."""
    code, status = _KNOWN.get(error.code, (error.code, error.http_status))
    return status, msgspec.json.encode({"error_code": code, "message": str(error)})
