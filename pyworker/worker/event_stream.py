"""Worker events of our own app: what ``celery.events.EventDispatcher`` and ``Heart`` do for Celery's."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import TYPE_CHECKING, Any

from pyworker.events.event import get_exchange, utc_offset_h
from pyworker.version import __version__
from pyworker.worker.event_publisher import ROUTING_KEY, EventPublisher, publish_json
from pyworker.worker.repeater import Repeater

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import Engine
    from pyworker.worker.broker_line import BrokerLine

_HEARTBEAT_S = 2.0
SOFTWARE = {"sw_ident": "pyworker", "sw_ver": __version__, "sw_sys": platform.system()}


def load_average() -> tuple[float, ...]:
    """Return the machine's load as Celery's heartbeats show it."""
    return tuple(round(load, 2) for load in os.getloadavg())


class EventStream:
    """The events of one node.

    Args:
        engine: builds and numbers task events.
        hostname: the node's name.
        line: the connection that events leave by.
        exchange: name of the event exchange.
        serializer: how events are written, ``event_serializer``.
        silent: indexes of tasks that send no events.
        sends_task_events: whether task events are on at first.
        heartbeat_s: seconds between heartbeats; ``None`` sends no worker events about life.
    """

    def __init__(
        self,
        engine: Engine,
        hostname: str,
        line: BrokerLine,
        exchange: str,
        *,
        serializer: str,
        silent: Sequence[int],
        sends_task_events: bool,
        heartbeat_s: float | None,
    ) -> None:
        self._engine = engine
        self._hostname = hostname
        self._exchange_name = exchange
        self._serializer = serializer
        self._silent = list(silent)
        self._heartbeat_s = heartbeat_s
        self._publisher = EventPublisher(line, self._publish)
        self._repeater = Repeater("pyworker-heart")
        self.sends_task_events = sends_task_events
        self._update()

    def start(self) -> None:
        """Send ``worker-online`` and begin with the heartbeats."""
        if self._heartbeat_s is not None:
            self._beat("worker-online")
            self._repeater.call_repeatedly(self._heartbeat_s, self._beat, ("worker-heartbeat",))

    def stop(self) -> None:
        """Send ``worker-offline`` and what is left."""
        self._repeater.stop()
        if self._heartbeat_s is not None:
            self._beat("worker-offline")
        self._publisher.stop()

    def set_task_events(self, enabled: bool) -> bool:
        """Turn task events on or off; tells whether that changed anything."""
        changed = enabled != self.sends_task_events
        self.sends_task_events = enabled
        self._update()
        return changed

    def put(self, body: bytes) -> None:
        """Publish a list of task events."""
        self._publisher.put(body)

    def send_task_event(self, kind: str, task_id: str, **members: Any) -> None:
        """Send an event of a task that the engine does not see happen."""
        if self.sends_task_events:
            self._engine.send_task_event(kind, task_id, json.dumps(members, default=str).encode())

    def send(self, kind: str, **members: Any) -> None:
        """Send an event of the worker."""
        event = {
            "hostname": self._hostname, "utcoffset": utc_offset_h(), "pid": os.getpid(),
            "clock": self._engine.forward_clock(), **members, "timestamp": time.time(), "type": kind,
        }  # fmt: skip
        self._publisher.put(json.dumps(event, default=str).encode(), kind.replace("-", "."))

    def heartbeat(self) -> None:
        """Send the heartbeat that remote control asks for."""
        self.send("worker-heartbeat", freq=5, **SOFTWARE)

    def _beat(self, kind: str) -> None:
        counters = self._engine.counters()
        self.send(
            kind, freq=self._heartbeat_s, active=counters.get("active", 0), processed=counters.get("started", 0),
            loadavg=load_average(), **SOFTWARE,
        )  # fmt: skip

    def _update(self) -> None:
        self._engine.set_task_events(
            self.sends_task_events, pid=os.getpid(), utc_offset_h=utc_offset_h(), silent_tasks=self._silent
        )

    def _publish(self, connection: Any, body: bytes, routing_key: str = ROUTING_KEY) -> None:
        publish_json(
            connection, get_exchange(connection, self._exchange_name), body, routing_key=routing_key,
            serializer=self._serializer, headers={"hostname": self._hostname},
        )  # fmt: skip


def heartbeat_interval_s(given: float | None) -> float:
    """Return the interval to use."""
    return float(given or _HEARTBEAT_S)
