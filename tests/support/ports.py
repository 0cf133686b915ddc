"""Free TCP ports of 127.0.0.1."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port nobody listens on now, never Redis's own 6379."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port != 6379:
            return port
