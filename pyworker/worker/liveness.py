"""Kombu connections beside the engine's own: signs of life, and no endless waits for a server that is gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Signs of life in one interval, and looks whether one is due.
_RATE, _LOOKS = 2, 4
#: An answer comes within this, unless the transport's options say otherwise.
ANSWER_S = 10


def check_interval_s(connection: Any, longest_s: float) -> float:
    """Return how long a thread may wait on a connection until it calls :func:`give_sign_of_life`.

    Args:
        connection: an open kombu connection.
        longest_s: the wait where no signs of life were agreed on, in seconds.
    """
    if not connection.supports_heartbeats:
        return longest_s
    interval_s = float(connection.get_heartbeat_interval() or 0.0)
    return min(longest_s, interval_s / _LOOKS) if interval_s else longest_s


def give_sign_of_life(connection: Any) -> None:
    """Send what was agreed on.

    Raises:
        ConnectionError: the server gave none for too long (the transport's own kind).
    """
    if connection.supports_heartbeats and connection.get_heartbeat_interval():
        connection.heartbeat_check(_RATE)


def bound_answers(connection: Any) -> Any:
    """Have an AMQP connection, not opened yet, break when an answer takes too long; returns it.

    Signs of life cannot tell that a server is gone while their thread waits for its answer to something else.
    """
    if connection.transport.driver_name == "py-amqp":
        connection.transport_options = {"read_timeout": ANSWER_S, **(connection.transport_options or {})}
    return connection


@contextlib.contextmanager
def hanging_up_after(seconds: float, connection: Any) -> Iterator[None]:
    """Bound the waits inside for a server's answers: the connection is shut down then, which ends them by an error."""
    timer = threading.Timer(seconds, _hang_up, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(connection: Any) -> None:
    if connection is None or not connection.connected:
        return
    with contextlib.suppress(OSError, AttributeError):
        connection.connection.sock.shutdown(socket.SHUT_RDWR)
