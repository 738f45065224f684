"""Who may do what: principals, roles, and one pure decision. What no rule allows is denied."""

from __future__ import annotations

import hmac
import re

import msgspec

from mainspring.core import InvalidInput

ROLES: dict[str, frozenset[str]] = {
    "viewer": frozenset({"read"}),
    "editor": frozenset({"read", "write"}),
    "admin": frozenset({"read", "write", "administer"}),
}
"""What each role may do."""

MIN_TOKEN = 6
_READING_POSTS = ("/search", "/search-datasets", "/get-latest-versions", "/presigned-download-url")
_ADMINISTERED = re.compile(r"/(webhooks|_test)(/|$)")
_API = ("/api/", "/ajax-api/", "/_test/")


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asks, and the role they have; without a name it is whoever runs the server."""

    name: str
    role: str


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A token and whom it makes its bearer."""

    token: str
    principal: Principal


LOCAL = Principal(name="", role="admin")
"""Whoever reaches a server that only listens on this machine and has no token."""


def authorize(principal: Principal | None, action: str, resource: str) -> bool:
    """Decide whether a principal may ``read``, ``write`` or ``administer`` a resource (a path of the server)."""
    if principal is None or not resource.startswith("/"):
        return False
    needed = "administer" if _ADMINISTERED.search(resource) and action != "read" else action
    return needed in ROLES.get(principal.role, frozenset())


def action_of(method: str, path: str) -> str:
    """Return what a request does: ``read``, ``write``, or ``unknown`` for methods nobody knows."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return "read"
    if method == "POST" and path.startswith(_API) and path.endswith(_READING_POSTS):
        return "read"
    return "write" if method in ("POST", "PUT", "PATCH", "DELETE") else "unknown"


def parse_tokens(text: str) -> tuple[Grant, ...]:
    """Read tokens, one per line: ``TOKEN`` alone is an administrator's, or ``NAME ROLE TOKEN``; ``#`` comments."""
    grants = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name, role, token = words if len(words) == 3 else ("", "admin", words[0])
        if len(words) not in (1, 3) or role not in ROLES:
            raise InvalidInput(
                "A line of the token file is neither TOKEN nor NAME ROLE TOKEN.", hint=f"Roles: {', '.join(ROLES)}."
            )
        if len(token) < MIN_TOKEN:
            raise InvalidInput(
                f"A token is shorter than {MIN_TOKEN} characters.", hint="Make one: openssl rand -hex 32"
            )
        grants.append(Grant(token=token, principal=Principal(name=name, role=role)))
    return tuple(grants)


def find_principal(grants: tuple[Grant, ...], token: bytes) -> Principal | None:
    """Return whom a token belongs to; compares with every token, in the same time whichever it is."""
    found = None
    for grant in grants:
        if hmac.compare_digest(token, grant.token.encode()):
            found = grant.principal
    return found
