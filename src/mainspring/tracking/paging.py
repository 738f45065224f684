"""Page tokens: opaque to clients, an offset to us, as in MLflow."""

from __future__ import annotations

import base64
import binascii

import msgspec

from mainspring.core import InvalidInput


class _Token(msgspec.Struct):
    offset: int


def read_offset(page_token: str | None) -> int:
    """Return the offset a page token stands for; 0 without one."""
    if not page_token:
        return 0
    try:
        offset = msgspec.json.decode(base64.b64decode(page_token, validate=True), type=_Token).offset
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput("Invalid page token, could not base64-decode.", hint="Use next_page_token.") from error
    if not 0 <= offset < 1 << 62:
        raise InvalidInput("Invalid page token.", hint="Use next_page_token.")
    return offset


def next_token(offset: int, limit: int, found: int) -> str | None:
    """Return the token of the page after this one; None if no more than ``limit`` were found where one more was asked.

    So a last page that is full has no token, and nobody asks for an empty one.
    """
    if found <= limit:
        return None
    return base64.b64encode(msgspec.json.encode(_Token(offset + limit))).decode()


def check_max_results(max_results: int, highest: int) -> int:
    """Return a page size that is within MLflow's limits."""
    if not 0 < max_results <= highest:
        rule = f"It must be at most {highest}" if max_results > highest else "It must be a positive integer"
        raise InvalidInput(f"Invalid value {max_results} for parameter 'max_results' supplied. {rule}")
    return max_results
