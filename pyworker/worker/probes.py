"""Probes and metrics of a worker: where they listen, and the figures about queues, which only the broker knows.

Everything is answered natively (``native/src/probes``); this module measures the queues from time to time, by kombu, on
a connection and a thread of its own, so that a broker that hangs delays no answer.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import Engine
    from pyworker.worker.protocol import WorkerApp

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


class QueueWatcher:
    """Measures how many messages wait in each queue, and how long the first of them has been seen there.

    Messages carry no time of publication, so the age is what this node has seen: it begins when a message is first
    found at the head of its queue, and is at most so much too small.
    """

    def __init__(self, app: WorkerApp, engine: Engine, queues: Sequence[str]) -> None:
        self._app = app
        self._engine = engine
        self._queues = tuple(queues)
        self._heads: dict[str, tuple[Any, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyworker-queues", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """End; does not wait for a broker that hangs."""
        self._stopping.set()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            try:
                with self._app.broker_connection() as connection, connection.channel() as channel:
                    while not self._stopping.wait(pause_s):
                        self._engine.set_gauges(self._measure(channel))
                        pause_s = _INTERVAL_S
            except Exception as error:
                # No figure is better than an old one.
                self._engine.set_gauges([])
                logger.debug("cannot measure the queues: %r", error)
                pause_s = _PAUSE_AFTER_ERROR_S

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
