"""Queues that remote control adds while the node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.transport.amqp_topology import added_queue_of, declarations_of
from pyworker.worker.broadcasts import Broadcasts, inbox_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Engine


class AddedQueues:
    """What one node was told to consume; used by the mailbox's thread, and once at the end.

    Where the broker keeps no copy of a broadcast for each node, a broadcast queue gets a listener with an inbox.

    Args:
        connect: returns a new kombu connection.
        hostname: the node's name.
        broker_kind: which of the engine's brokers consumes.
    """

    def __init__(self, connect: Callable[[], Any], hostname: str, broker_kind: str) -> None:
        self._connect = connect
        self._hostname = hostname
        self._broker_kind = broker_kind
        self._listeners: dict[str, Broadcasts] = {}

    def add(self, engine: Engine, queue: Any) -> None:
        """Declare a queue and have the engine consume it.

        Args:
            engine: the node's engine.
            queue: the ``kombu.Queue``.

        Raises:
            NativeError: the engine cannot consume another queue.
            ImproperlyConfigured: an argument of the queue is of a kind that the broker does not know.
        """
        with self._connect() as connection:
            queue(connection.default_channel).declare()
        is_broadcast = queue.exchange is not None and queue.exchange.type == "fanout"
        if self._broker_kind == "amqp":
            engine.declare_queue(added_queue_of(queue), declarations_of([queue]))
        elif is_broadcast and self._broker_kind != "kombu":
            self._listen(engine, queue)
        else:
            engine.set_queue_active(queue.name, True)

    def remove(self, engine: Engine, name: str) -> None:
        """Consume a queue no more, an added one or one of the start."""
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.stop()
        engine.set_queue_active(self._inbox(name) if listener else name, False)

    def stop(self) -> None:
        """End all listeners."""
        while self._listeners:
            self._listeners.popitem()[1].stop()

    def _listen(self, engine: Engine, queue: Any) -> None:
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

    def _inbox(self, name: str) -> str:
        return f"{inbox_of(self._hostname)}.{name}"
