"""Listening sockets."""

from __future__ import annotations

import errno
import ipaddress
import socket

from mainspring.core import InvalidInput, Unavailable

_BACKLOG = 2_048


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; raise `Unavailable` if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(f"Port {port} on {host} is in use.", hint="Pass another --port, or 0.") from error
        raise Unavailable(f"Cannot bind to {host}:{port}: {error.strerror}.") from error
    except OverflowError as error:
        listener.close()
        raise InvalidInput(f"{port} is not a port.", hint="Use 0 to 65535.") from error
    return listener


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
