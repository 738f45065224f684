"""Listening sockets."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import socket
import struct
import sys

from mainspring.core import InvalidInput, Unavailable

_BACKLOG = 2_048
HANDSHAKE_SECONDS = 0.1
"""How long those may take who had begun to connect when `turn_away` was called."""
_SO_ATTACH_FILTER = 26
_TURN_AWAY = (  # classic BPF (Documentation/networking/filter.rst): code, jump if true, jump if false, operand
    (0x30, 0, 0, 13),  # load the byte of TCP's flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then drop the packet,
    (0x06, 0, 0, 0xFFFFFFFF),  # else keep it
)


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


def turn_away(listener: socket.socket) -> None:
    """Ignore who begins to connect from now on; who has begun is still let in, by every process with this socket.

    Closing a listener resets the connections that wait to be accepted, though to their clients they are open and
    perhaps have been written to. Ignored clients try again a second later and are refused, or find another server.
    Only Linux can do this; elsewhere the few who come between the last accept and the close are reset.
    """
    if not sys.platform.startswith("linux"):
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _TURN_AWAY)
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(_TURN_AWAY), ctypes.addressof(held))
    with contextlib.suppress(OSError):  # a sandbox without filters
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
