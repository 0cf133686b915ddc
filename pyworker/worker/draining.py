"""Waiting for what comes on a kombu connection in a thread that can be woken: no tick while nothing comes."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from typing import Any

from pyworker.worker.liveness import check_interval_s, give_sign_of_life

#: How long one wait on the sockets lasts when nothing comes, and how often the connection's health is looked after.
_IDLE_WAIT_S = 25.0
#: The wait of transports that show no sockets.
_BLIND_WAIT_S = 1.0
_RINGS_AT_ONCE = 4096


class Drain:
    """One thread's waiting. ``stop`` and ``ring`` may be called by any thread and end the wait at once."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._next_check_s = time.monotonic() + _IDLE_WAIT_S

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
        self.ring()

    def ring(self) -> None:
        """End the wait that runs, or the next one."""
        try:
            os.write(self._wake_writer, b"x")
        except BlockingIOError:
            pass  # nobody answered thousands of rings yet: one more tells nothing new

    def pause(self, seconds: float) -> bool:
        """Wait, say for another try to connect; returns whether ``stop`` was called."""
        return self._stopping.wait(seconds)

    def wait_for_ring(self, seconds: float) -> None:
        """Wait for nothing but ``ring`` and ``stop``."""
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        if poller.poll(seconds * 1000):
            self._answer()

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

    def wait(self, connection: Any, longest_s: float = math.inf) -> bool:
        """Sleep on the connection's sockets until there may be more, or somebody rings, or the time is over.

        Returns:
            Whether there may be something to deliver.

        Raises:
            OSError: the server gave no sign of life for too long (``connection.connection_errors``).
        """
        cycle = getattr(connection.transport, "cycle", None)
        descriptors = list(getattr(cycle, "fds", ())) or _own_socket(connection)
        poller = select.poll()
        for descriptor in (self._wake_reader, *descriptors):
            poller.register(descriptor, select.POLLIN | select.POLLERR | select.POLLHUP)
        wait_s = min(check_interval_s(connection, _IDLE_WAIT_S if descriptors else _BLIND_WAIT_S), longest_s)
        found = {descriptor for descriptor, _ in poller.poll(wait_s * 1000)}
        if self._wake_reader in found:
            self._answer()
        give_sign_of_life(connection)
        if time.monotonic() >= self._next_check_s:
            self._next_check_s = time.monotonic() + _IDLE_WAIT_S
            check = getattr(cycle, "maybe_check_subclient_health", None)
            if check is not None:
                check()
        return not descriptors or not found <= {self._wake_reader}

    def _answer(self) -> None:
        """Take the rings away; who stops goes on ringing."""
        if not self.is_stopping:
            os.read(self._wake_reader, _RINGS_AT_ONCE)


def _own_socket(connection: Any) -> list[int]:
    """Return the one socket of a transport that is a single connection (RabbitMQ)."""
    socket = getattr(connection.connection, "sock", None)
    return [] if socket is None else [socket.fileno()]
