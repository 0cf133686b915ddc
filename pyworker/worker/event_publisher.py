"""Publishes the engine's lists of task events on the node's broker line: a slow broker must not hold up the parent.

A list is published as it is, as one message with the routing key ``task.multi``, which is how Celery's own worker
sends task events in batches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from kombu import Producer
from kombu.serialization import loads

from pyworker.worker.broker_line import LinePart
from pyworker.worker.redis_line import fan_out_json

if TYPE_CHECKING:
    from pyworker.worker.broker_line import BrokerLine

logger = logging.getLogger("celery.worker")

#: What waits while the broker is away; beyond it the oldest lists are dropped.
_BACKLOG_MAX_BYTES = 64 * 1024 * 1024
#: How long publishing may go on before commands are looked after.
_TURN_S = 0.02
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
        is_fanout = exchange.type == "fanout"
        if is_fanout and fan_out_json(
            connection, body, exchange.name, routing_key, headers=headers, delivery_mode=delivery_mode
        ):
            return
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


class EventPublisher(LinePart):
    """A backlog and its part of the line, which it takes only once there was something to publish.

    Args:
        line: the node's connection beside the engine's, or one to where events go.
        publish: publishes a list on it.
    """

    name = "events"

    def __init__(self, line: BrokerLine, publish: Publish) -> None:
        self._line = line
        self._publish = publish
        self._lock = threading.Lock()
        self._backlog: deque[tuple[bytes, str]] = deque()
        self._backlog_bytes = 0
        self._has_part = False

    def put(self, body: bytes, routing_key: str = ROUTING_KEY) -> None:
        """Queue a list of task events, or one event of another routing key; never blocks."""
        with self._lock:
            is_first = not self._backlog
            self._backlog.append((body, routing_key))
            self._backlog_bytes += len(body)
            dropped = 0
            while self._backlog_bytes > _BACKLOG_MAX_BYTES and len(self._backlog) > 1:
                self._backlog_bytes -= len(self._backlog.popleft()[0])
                dropped += 1
            joins, self._has_part = not self._has_part, True
        if joins:
            self._line.add(self)
        elif is_first:
            self._line.ring()
        if dropped:
            logger.warning("events: the broker does not keep up or is away; dropped %d lists of task events", dropped)

    def stop(self) -> None:
        """Publish what waits, within limits, and end. Idempotent."""
        self._line.remove(self)

    # -- in the line's thread

    def turn(self, connection: Any) -> bool:
        """Publish what waits, for a moment; others have a turn in between."""
        end = time.monotonic() + _TURN_S
        while (item := self._take()) is not None:
            self._publish_or_put_back(connection, item)
            if time.monotonic() >= end:
                break
        return bool(self._backlog)

    def _publish_or_put_back(self, connection: Any, item: tuple[bytes, str]) -> None:
        try:
            self._publish(connection, *item)
        except BaseException:
            with self._lock:
                self._backlog.appendleft(item)
                self._backlog_bytes += len(item[0])
            raise

    def _take(self) -> tuple[bytes, str] | None:
        """Return the next body, ``None`` if there is none."""
        with self._lock:
            if not self._backlog:
                return None
            item = self._backlog.popleft()
            self._backlog_bytes -= len(item[0])
            return item
