"""Probes and metrics of a worker: where they listen, and the figures about queues, which only the broker knows.

Everything is answered natively (``native/src/probes``); this module measures the queues from time to time, on the
node's broker line, so that a broker that hangs delays no answer.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from pyworker.worker.broker_line import LinePart
from pyworker.worker.redis_line import leave_channel, own_channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import Engine
    from pyworker.worker.broker_line import BrokerLine

logger = logging.getLogger("pyworker.worker.probes")

_INTERVAL_S = 5.0
_PAUSE_AFTER_ERROR_S = 15.0
_DEFAULT_HOST = "127.0.0.1"


def listening_address(text: str) -> str:
    """The address that ``--probes`` names: a port, or a host's address and a port.

    Raises:
        ValueError: it is neither.
    """
    host, _, port = str(text).rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no port and no address like 127.0.0.1:9808")
    return f"{host or _DEFAULT_HOST}:{port}"


class QueueWatcher(LinePart):
    """Measures how many messages wait in each queue, and how long the first of them has been seen there.

    Messages carry no time of publication, so the age is what this node has seen: it begins when a message is first
    found at the head of its queue, and is at most so much too small.
    """

    name = "queue figures"

    def __init__(self, engine: Engine, line: BrokerLine, queues: Sequence[str]) -> None:
        self._engine = engine
        self._line = line
        self._queues = tuple(queues)
        self._heads: dict[str, tuple[Any, float]] = {}
        self._channel: Any = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._line.add(self)

    def stop(self) -> None:
        """End; does not wait for a broker that hangs."""
        self._line.remove(self, deadline_s=0.0)

    # -- in the line's thread

    def due_s(self) -> float:
        """When the next measurement is due."""
        return self._due_s

    def turn(self, connection: Any) -> bool:
        """Measure, if it is time."""
        if time.monotonic() < self._due_s:
            return False
        self._due_s = time.monotonic() + _INTERVAL_S
        try:
            if self._channel is None:
                self._channel = own_channel(connection)
            self._engine.set_gauges(self._measure(self._channel))
        except connection.connection_errors:
            raise
        except Exception as error:
            logger.debug("cannot measure the queues: %r", error)
            self.lost()
            self._due_s = time.monotonic() + _PAUSE_AFTER_ERROR_S
        return False

    def close(self) -> None:
        """Let go of the channel."""
        if self._channel is not None:
            leave_channel(self._channel)
        self.lost()

    def lost(self) -> None:
        """No figure is better than an old one."""
        self._channel = None
        self._engine.set_gauges([])

    def _measure(self, channel: Any) -> list[tuple[str, str, str, float]]:
        depths, ages = [], []
        now_s = time.monotonic()
        for queue in self._queues:
            depth = _depth(channel, queue)
            depths.append(("queue_depth", "queue", queue, float(depth)))
            head = _head(channel, queue) if depth else None
            known, since_s = self._heads.get(queue, (None, now_s))
            if head is None or head != known:
                since_s = now_s
            self._heads[queue] = (head, since_s)
            if head is not None or not depth:
                ages.append(("queue_oldest_age_seconds", "queue", queue, now_s - since_s if head is not None else 0.0))
        return depths + ages


def _depth(channel: Any, queue: str) -> int:
    size = getattr(channel, "_size", None)
    if size is not None:
        # kombu's virtual transports: where an empty queue does not exist, asking for its declaration is an error.
        return int(size(queue) or 0)
    return int(channel.queue_declare(queue, passive=True).message_count or 0)


def _head(channel: Any, queue: str) -> Any:
    """What lies at the head of a queue, in the order in which priorities are read; ``None`` if it cannot be seen."""
    client, steps = getattr(channel, "client", None), getattr(channel, "priority_steps", None)
    if client is None or steps is None:
        return None
    for step in steps:
        found = client.lindex(channel._q_for_pri(queue, step), -1)
        if found is not None:
            return hash(found)
    return None
