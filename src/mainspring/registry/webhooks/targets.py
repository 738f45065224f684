"""Where webhooks may go: not to this machine, not into the network behind it, unless the operator allows it.

A name is resolved once, all its addresses are checked, and the connection is made to the checked address: a name
that answers differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit

import msgspec

from mainspring.core import InvalidInput

MAX_URL = 2000
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NUMERIC = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+))*\.?", re.IGNORECASE)
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "metadata", "metadata.google.internal")


class TargetRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which schemes are allowed, and whether private addresses are."""

    schemes: tuple[str, ...] = ("https",)
    allows_private: bool = False


def check_url(url: str, rules: TargetRules) -> SplitResult:
    """Return the parts of a webhook's URL; raise `InvalidInput` in MLflow's words."""
    if not url.strip():
        raise InvalidInput(f"Webhook URL cannot be empty or just whitespace: {url[:100]!r}")
    if len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise InvalidInput(f"Invalid webhook URL {url[:100]!r}: too long, or with characters a URL cannot have.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"Invalid webhook URL {url[:200]!r}: {error!r}") from error
    if parts.scheme not in rules.schemes:
        raise InvalidInput(
            f"Invalid webhook URL scheme: {parts.scheme!r}. Allowed schemes are: {', '.join(rules.schemes)}."
        )
    if not host:
        raise InvalidInput(f"Webhook URL must include a hostname: {url[:200]!r}")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("Webhook URL must not carry a user name or a password.", hint="Use the secret.")
    if not rules.allows_private:
        _check_host(host)
    return parts


def is_public(address: str) -> bool:
    """Say whether an IP address, also one wrapped into IPv6, is one of the open internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour
        if wrapped is None and found in _NAT64:
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if wrapped is not None:
            return wrapped.is_global and not wrapped.is_multicast
    return found.is_global and not found.is_multicast


def resolve(host: str, port: int, rules: TargetRules) -> str:
    """Return the address to connect to; raise `InvalidInput` if any address of the name is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"Cannot resolve webhook host {host[:200]!r}.", hint="Check its name.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not rules.allows_private:
        for address in addresses:
            if not is_public(address):
                raise _not_public(host, address)
    return addresses[0]


def _check_host(host: str) -> None:
    """Refuse hosts that are known to be private without asking anybody."""
    if host.rstrip(".") in _LOCAL_NAMES or host.rstrip(".").endswith(".localhost"):
        raise _not_public(host, "this machine")
    try:
        literal = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if _NUMERIC.fullmatch(host):
            raise InvalidInput(f"Webhook URL must not have an unusual address: {host[:100]!r}.") from None
        return
    if not is_public(str(literal)):
        raise _not_public(host, str(literal))


def _not_public(host: str, address: str) -> InvalidInput:
    return InvalidInput(
        f"Webhook URL must not resolve to a non-public IP address. {host[:200]!r} resolves to {address}.",
        hint="The operator can allow it: MAINSPRING_WEBHOOK_PRIVATE=allow.",
    )
