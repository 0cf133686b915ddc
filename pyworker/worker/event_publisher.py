"""Publishes the engine's lists of task events, from a thread of its own: a slow broker must not hold up the parent.

A list is published as it is, as one message with the routing key ``task.multi``, which is how Celery's own worker
sends task events in batches.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from kombu import Producer
from kombu.serialization import loads

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("celery.worker")

#: What waits while the broker is away; beyond it the oldest lists are dropped.
_BACKLOG_MAX_BYTES = 64 * 1024 * 1024
_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 10.0
ROUTING_KEY = "task.multi"


def publish_json(
    connection: Any,
    exchange: Any,
    body: bytes,
    *,
    routing_key: str,
    serializer: str,
    headers: dict[str, Any],
    delivery_mode: int = 1,
) -> None:
    """Publish events that are written as JSON; another serializer's bytes are made from them.

    Args:
        connection: a ``kombu.Connection``.
        exchange: the event exchange.
        body: an event or a list of events.
        routing_key: which events they are.
        serializer: ``event_serializer``.
        headers: the message's.
        delivery_mode: 1, transient, or 2, persistent.

    Raises:
        Exception: whatever the transport raises.
    """
    if serializer == "json":
        content: Any = body
        encoded: dict[str, Any] = {"content_type": "application/json", "content_encoding": "utf-8"}
    else:
        content = loads(body, "application/json", "utf-8")
        encoded = {"serializer": serializer}
    Producer(connection, auto_declare=False).publish(
        content, exchange=exchange.name, routing_key=routing_key, declare=[exchange], headers=headers,
        delivery_mode=delivery_mode, **encoded,
    )  # fmt: skip


class Publish(Protocol):
    """Publishes one body on a connection."""

    def __call__(self, connection: Any, body: bytes, routing_key: str) -> None:
        """Publish; raises what the transport raises."""


class EventPublisher:
    """The thread; it and its connection exist only once there was something to publish.

    Args:
        connect: makes a kombu connection, not opened yet.
        publish: publishes a list on it.
    """

    def __init__(self, connect: Callable[[], Any], publish: Publish) -> None:
        self._connect = connect
        self._publish = publish
        self._news = threading.Condition()
        self._backlog: deque[tuple[bytes, str]] = deque()
        self._backlog_bytes = 0
        self._is_stopping = False
        self._thread: threading.Thread | None = None

    def put(self, body: bytes, routing_key: str = ROUTING_KEY) -> None:
        """Queue a list of task events, or one event of another routing key; never blocks."""
        with self._news:
            self._backlog.append((body, routing_key))
            self._backlog_bytes += len(body)
            dropped = 0
            while self._backlog_bytes > _BACKLOG_MAX_BYTES and len(self._backlog) > 1:
                self._backlog_bytes -= len(self._backlog.popleft()[0])
                dropped += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pyworker-events", daemon=True)
                self._thread.start()
            self._news.notify_all()
        if dropped:
            logger.warning("events: the broker does not keep up or is away; dropped %d lists of task events", dropped)

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """Publish what waits, at most until the deadline, and end. Idempotent."""
        with self._news:
            self._is_stopping = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join(deadline_s)

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while self._has_work():
            try:
                with self._connect() as connection:
                    while (item := self._take()) is not None:
                        self._publish_or_put_back(connection, item)
                        retry_s = _FIRST_RETRY_S
            except Exception as error:  # whatever the transport raises, events are tried again
                if self._is_stopping:
                    return
                logger.warning("events: cannot publish: %r; trying again in %.1f s", error, retry_s)
                with self._news:
                    self._news.wait_for(lambda: self._is_stopping, retry_s)
                retry_s = min(retry_s * 2, _LONGEST_RETRY_S)

    def _publish_or_put_back(self, connection: Any, item: tuple[bytes, str]) -> None:
        try:
            self._publish(connection, *item)
        except BaseException:
            with self._news:
                self._backlog.appendleft(item)
                self._backlog_bytes += len(item[0])
            raise

    def _has_work(self) -> bool:
        with self._news:
            self._news.wait_for(lambda: bool(self._backlog) or self._is_stopping)
            return bool(self._backlog)

    def _take(self) -> tuple[bytes, str] | None:
        """Return the next body, waiting for it; ``None`` at the end."""
        with self._news:
            self._news.wait_for(lambda: bool(self._backlog) or self._is_stopping)
            if not self._backlog:
                return None
            item = self._backlog.popleft()
            self._backlog_bytes -= len(item[0])
            return item
