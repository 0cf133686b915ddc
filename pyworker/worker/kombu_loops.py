"""The two ways in which kombu's transports are driven: asynchronous ones by kombu's hub, the others by asking them."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any

from kombu.asynchronous import Hub, set_event_loop

if TYPE_CHECKING:
    from pyworker._native import KombuLink
    from pyworker.worker.kombu_consuming import Consuming

#: Longest time in which messages are collected before the engine gets them.
_BATCH_S = 0.01
#: A look into a queue of this process costs nothing.
_MEMORY_INTERVAL_S = 0.01
#: How long a transport that waits by itself may do so: acknowledgements wait as long.
_OWN_WAIT_S = 1.0
_HOUSEKEEPING_S = 0.5
#: Heartbeats are looked after this often in each interval, as in Celery.
_HEARTBEAT_RATE = 2.0


def is_asynchronous(connection: Any) -> bool:
    """Whether kombu's hub drives the connection's transport."""
    return bool(connection.transport.implements.asynchronous)


def new_hub() -> Any:
    """Make a hub and have kombu's transports use it; before the connection is opened."""
    hub = Hub()
    set_event_loop(hub)
    return hub


def close_hub(hub: Any) -> None:
    """Let go of the hub's descriptors."""
    hub.close()
    set_event_loop(None)


def poll(consuming: Consuming, connection: Any, link: KombuLink) -> None:
    """Serve until told to stop.

    Raises:
        Exception: one of the connection's errors.
    """
    interval_s = _interval_s(connection)
    next_look = 0.0
    while True:
        consuming.exchange()
        if consuming.is_stopping:
            return
        consuming.return_unwanted()
        now = time.monotonic()
        if consuming.room > 0 and now >= next_look:
            if _collect(consuming, connection, 0 if interval_s is not None else _OWN_WAIT_S):
                continue
            next_look = time.monotonic() + (interval_s or 0.0)
        wait_s = next_look - time.monotonic() if consuming.room > 0 else _HOUSEKEEPING_S
        if wait_s > 0:
            link.wait(wait_s)


def _interval_s(connection: Any) -> float | None:
    """How often an empty queue is looked at, as kombu does; ``None`` if the transport waits by itself."""
    transport = connection.transport
    interval: float | None = transport.polling_interval
    if transport.driver_type == "memory" and "polling_interval" not in connection.transport_options:
        return _MEMORY_INTERVAL_S
    return interval


def _collect(consuming: Consuming, connection: Any, timeout_s: float) -> bool:
    """Take what is there; returns whether the queues may hold more."""
    end = time.monotonic() + _BATCH_S
    while consuming.room > 0:
        try:
            connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            return False
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            return False
        if time.monotonic() >= end:
            return True
    # Whether there is more will be seen when more is wanted.
    return True


def serve_on_hub(consuming: Consuming, connection: Any, link: KombuLink, hub: Any) -> None:
    """Serve until told to stop.

    Raises:
        Exception: one of the connection's errors.
    """
    hub.propagate_errors = connection.connection_errors
    hub.add_reader(link.fileno(), consuming.exchange)
    failure: list[BaseException] = []
    _keep_alive(connection, hub, failure)
    hub.timer.call_repeatedly(_HOUSEKEEPING_S, consuming.return_unwanted)
    consuming.exchange()
    if connection.transport.driver_type == "amqp":
        # What came with the answers to our own commands is read already: no descriptor will tell.
        hub.call_soon(_drain_quickly, connection)
    loop = hub.create_loop()
    while not consuming.is_stopping:
        try:
            next(loop)
        except StopIteration:
            loop = hub.create_loop()
        if failure:
            raise failure[0]
        if consuming.has_news:
            consuming.exchange()


def _keep_alive(connection: Any, hub: Any, failure: list[BaseException]) -> None:
    interval_s = connection.get_heartbeat_interval()
    if not (interval_s and connection.supports_heartbeats):
        return

    def tick() -> None:
        try:
            connection.heartbeat_check(_HEARTBEAT_RATE)
        except Exception as error:  # raised again by the loop: the hub only logs what timers raise
            failure.append(error)

    hub.timer.call_repeatedly(interval_s / _HEARTBEAT_RATE, tick)


def _drain_quickly(connection: Any) -> None:
    try:
        connection.drain_events(timeout=0.1)
    except OSError as error:
        if getattr(error, "errno", None) not in (None, errno.EAGAIN):
            raise
