"""Broadcast queues (bound to fanout exchanges) where the broker keeps no copy for each node: Redis and SQLite.

There a broadcast reaches whoever listens at that moment. One thread listens by kombu and puts each message into a queue
of this node alone, which the engine consumes like any other: from there on it is acknowledged, retried and counted as
every task. What lay in that queue from an earlier life of the node is dropped at the start: it was for that life.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from kombu import Consumer, Producer

from pyworker.contrib.migrate import republish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger("celery.worker.consumer.consumer")

#: How long a stop may have to wait for the thread to notice.
_WAIT_S = 0.5
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0
#: One look at the connection makes kombu subscribe.
_SUBSCRIBE_S = 0.05


def inbox_of(hostname: str) -> str:
    """Return the name of the queue that broadcasts for a node are put into."""
    return f"{hostname}.broadcasts"


class Broadcasts:
    """Listens for one node.

    Args:
        connect: returns a new kombu connection.
        queues: the broadcast queues, as ``kombu.Queue``.
        inbox: the node's own queue.
    """

    def __init__(self, connect: Callable[[], Any], queues: Sequence[Any], inbox: str) -> None:
        self._connect = connect
        self._queues = list(queues)
        self._inbox = inbox
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Any = None

    def start(self) -> None:
        """Listen from now on; returns when the broker knows it."""
        if not self._queues:
            return
        with self._connect() as connection, connection.channel() as channel:
            channel.queue_purge(self._inbox)
        self._listen()
        self._thread = threading.Thread(target=self._run, name="pyworker-broadcasts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        self._connection = self._connect()
        channel = self._connection.channel()
        producer = Producer(self._connection.channel(), auto_declare=False)

        def forward(message: Any) -> None:
            republish(producer, message, exchange="", routing_key=self._inbox)
            message.ack()

        Consumer(channel, [queue(channel) for queue in self._queues], on_message=forward).consume()
        self._look(_SUBSCRIBE_S)

    def _look(self, timeout_s: float) -> None:
        try:
            self._connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            pass

    def _run(self) -> None:
        delay_s = _FIRST_RETRY_S
        errors = (*self._connection.connection_errors, *self._connection.channel_errors)
        while not self._stopping.is_set():
            try:
                if self._connection is None:
                    self._listen()
                self._look(_WAIT_S)
                delay_s = _FIRST_RETRY_S
            except errors as error:
                logger.warning("Connection for broadcasts lost, trying again in %.0f s: %r", delay_s, error)
                self._close()
                self._stopping.wait(delay_s)
                delay_s = min(delay_s * 2, _LONGEST_RETRY_S)
        self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect()
