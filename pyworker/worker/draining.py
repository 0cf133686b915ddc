"""Waiting for what comes on a kombu connection in a thread that can be woken: no tick while nothing comes."""

from __future__ import annotations

import os
import select
import threading
from typing import Any

from pyworker.worker.liveness import check_interval_s, give_sign_of_life

#: How long one wait on the sockets lasts when nothing comes; after it the connection's health is checked.
_IDLE_WAIT_S = 25.0
#: The wait of transports that show no sockets.
_BLIND_WAIT_S = 1.0


class Drain:
    """One thread's waiting. ``stop`` may be called by any thread and ends the wait at once."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()

    def __del__(self) -> None:
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    @property
    def is_stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End the wait that runs and every later one."""
        self._stopping.set()
        os.write(self._wake_writer, b"x")

    def pause(self, seconds: float) -> bool:
        """Wait, say for another try to connect; returns whether ``stop`` was called."""
        return self._stopping.wait(seconds)

    def deliver(self, connection: Any) -> None:
        """Hand what is there to the connection's consumers.

        Raises:
            OSError: the connection is gone (``connection.connection_errors``).
        """
        try:
            while not self.is_stopping:
                connection.drain_events(timeout=0.001)
        except TimeoutError:
            pass

    def wait(self, connection: Any) -> None:
        """Sleep on the connection's sockets until there may be more or ``stop`` is called.

        Raises:
            OSError: the server gave no sign of life for too long (``connection.connection_errors``).
        """
        cycle = getattr(connection.transport, "cycle", None)
        descriptors = list(getattr(cycle, "fds", ())) or _own_socket(connection)
        poller = select.poll()
        for descriptor in (self._wake_reader, *descriptors):
            poller.register(descriptor, select.POLLIN | select.POLLERR | select.POLLHUP)
        wait_s = check_interval_s(connection, _IDLE_WAIT_S if descriptors else _BLIND_WAIT_S)
        is_quiet = not poller.poll(wait_s * 1000)
        give_sign_of_life(connection)
        if is_quiet:
            check = getattr(cycle, "maybe_check_subclient_health", None)
            if check is not None:
                check()


def _own_socket(connection: Any) -> list[int]:
    """Return the one socket of a transport that is a single connection (RabbitMQ)."""
    socket = getattr(connection.connection, "sock", None)
    return [] if socket is None else [socket.fileno()]
