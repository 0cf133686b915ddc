"""Broadcast queues that remote control adds while the node runs, where the broker keeps no copy for each node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.worker.broadcasts import Broadcasts, inbox_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Engine


class AddedBroadcasts:
    """The listeners of one node, by queue; used by the mailbox's thread, and once at the end.

    Args:
        connect: returns a new kombu connection.
        hostname: the node's name.
    """

    def __init__(self, connect: Callable[[], Any], hostname: str) -> None:
        self._connect = connect
        self._hostname = hostname
        self._listeners: dict[str, Broadcasts] = {}

    def add(self, engine: Engine, queue: Any) -> None:
        """Listen from now on, and have the engine consume what comes.

        Args:
            engine: the node's engine.
            queue: the ``kombu.Queue``, bound to a fanout exchange.

        Raises:
            NativeError: the engine cannot consume another queue.
        """
        # An inbox of its own: the one of a queue that is listened to already must not be emptied.
        inbox = self._inbox(queue.name)
        listener = Broadcasts(self._connect, [queue], inbox)
        listener.start()
        try:
            engine.set_queue_active(inbox, True)
        except Exception:
            listener.stop()
            raise
        self._listeners[queue.name] = listener

    def remove(self, engine: Engine, name: str) -> bool:
        """Listen no more; tells whether it was done here."""
        listener = self._listeners.pop(name, None)
        if listener is None:
            return False
        listener.stop()
        engine.set_queue_active(self._inbox(name), False)
        return True

    def stop(self) -> None:
        """End all listeners."""
        while self._listeners:
            self._listeners.popitem()[1].stop()

    def _inbox(self, name: str) -> str:
        return f"{inbox_of(self._hostname)}.{name}"
