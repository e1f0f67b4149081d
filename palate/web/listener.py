"""The port that a command listens at. This module imports nothing heavy: a command opens the port before it loads the server behind it."""

from __future__ import annotations

import errno
import os
import socket

from palate.core import ConfigError

OWN_HOST = "127.0.0.1"
"""The address that this machine alone reaches."""

REMEDIES = {
    errno.EADDRINUSE: "Choose another --port, or end the program that uses it.",
    errno.EACCES: "Choose a --port from 1024 on.",
    errno.EADDRNOTAVAIL: "Choose a --host that is an address of this machine.",
}


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: the host or port cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else None
        cause = os.strerror(number) if number and number > 0 else error  # the error's own text repeats the address
        remedy = REMEDIES.get(number or 0, "Choose another --host or --port.")
        message = f"cannot listen at {host}:{port} ({cause}). {remedy}"
        raise ConfigError(message) from error
    # asyncio does not see that a socket made elsewhere is TCP; without this every small answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
