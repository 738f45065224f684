"""The page for what is not there or not allowed."""

from __future__ import annotations

import msgspec

from mainspring.console.views.head import Head, head_of
from mainspring.core import Clock, MainspringError


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, and what to do next."""

    head: Head
    status: int
    error_code: str
    message: str
    hint: str


def show_problem(clock: Clock, error: MainspringError) -> Problem:
    """Show an error a person can act on."""
    title = "Not found" if error.http_status == 404 else "That did not work"
    return Problem(
        head=head_of(clock, title, ""),
        status=error.http_status,
        error_code=error.code,
        message=error.message,
        hint=error.hint,
    )
