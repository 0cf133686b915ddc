"""Receives events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kombu import Queue
from kombu.connection import maybe_channel
from kombu.mixins import ConsumerMixin

from pyworker.current import app_or_default
from pyworker.events.event import get_exchange, utc_offset_h
from pyworker.exceptions import ImproperlyConfigured
from pyworker.identifiers import uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pyworker.app.base import Celery

#: A client's clock is never in step: its events count as just before what is known.
CLIENT_CLOCK_SKEW = -1


class EventReceiver(ConsumerMixin):  # type: ignore[misc]
    """Receives events and hands each to its handler.

    Args:
        channel: a channel, or a ``kombu.Connection``, whose default channel is used.
        handlers: functions by event type, each called with the event; ``"*"`` gets those without one.
        routing_key: which events; ``#`` is all, ``worker.#`` those of workers. Redis sends all in any case.
        node_id: the second part of the queue's name.
        app: the application, the current one if not given.
        queue_prefix: the first part of the queue's name, ``event_queue_prefix`` if not given.
        accept: content types, those of ``event_serializer`` and JSON if not given.
        queue_ttl: seconds that an event waits at most, ``event_queue_ttl`` if not given.
        queue_expires: seconds that the queue lives unused, ``event_queue_expires`` if not given.
        queue_exclusive, queue_durable: kind of queue, ``event_queue_exclusive`` and ``event_queue_durable`` if not
            given.

    Raises:
        ImproperlyConfigured: the queue is to be both exclusive and durable.
    """

    #: The application of classes that are bound to one (``app.events.Receiver``).
    app: Any = None

    def __init__(
        self,
        channel: Any,
        handlers: Mapping[str, Callable[[dict[str, Any]], object]] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: Celery | None = None,
        queue_prefix: str | None = None,
        accept: Iterable[str] | None = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
        queue_exclusive: bool | None = None,
        queue_durable: bool | None = None,
    ) -> None:
        self.app = app_or_default(app or self.app)
        conf = self.app.conf
        self.channel = maybe_channel(channel)
        self.handlers = {} if handlers is None else handlers
        self.routing_key = routing_key
        self.node_id = node_id or uuid()
        self.queue_prefix = queue_prefix or conf.event_queue_prefix
        self.exchange = get_exchange(self.connection or self.app.connection_for_write(), name=conf.event_exchange)
        is_exclusive = conf.event_queue_exclusive if queue_exclusive is None else queue_exclusive
        is_durable = conf.event_queue_durable if queue_durable is None else queue_durable
        if is_exclusive and is_durable:
            raise ImproperlyConfigured("an event queue cannot be both exclusive and durable (event_queue_exclusive, "
                                       "event_queue_durable)")  # fmt: skip
        self.queue = Queue(
            f"{self.queue_prefix}.{self.node_id}", exchange=self.exchange, routing_key=routing_key,
            auto_delete=not is_durable, durable=is_durable, exclusive=is_exclusive,
            message_ttl=conf.event_queue_ttl if queue_ttl is None else queue_ttl,
            expires=conf.event_queue_expires if queue_expires is None else queue_expires,
        )  # fmt: skip
        self.clock = self.app.clock
        self.adjust_clock = self.clock.adjust
        self.forward_clock = self.clock.forward
        self.accept = {conf.event_serializer, "json"} if accept is None else accept

    @property
    def connection(self) -> Any:
        """The channel's ``kombu.Connection``."""
        return self.channel.connection.client if self.channel else None

    # -- receiving

    def itercapture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> Iterator[Any]:
        """Receive; yields whenever something came.

        Args:
            limit: how many messages are enough, no limit if not given. A message may carry many events.
            timeout: raise ``TimeoutError`` after so many seconds without a message.
            wakeup: ask the workers for a heartbeat first, so that they are known.
        """
        found: Iterator[Any] = self.consume(limit=limit, timeout=timeout, wakeup=wakeup)
        return found

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Receive until ``should_stop`` is set, the limit is reached, or the process is interrupted."""
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def wakeup_workers(self, channel: Any = None) -> None:
        """Ask the workers for a heartbeat."""
        self.app.control.broadcast("heartbeat", connection=self.connection, channel=channel)

    def process(self, type: str, event: dict[str, Any]) -> None:
        """Give an event to its handler."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def event_from_message(
        self, body: dict[str, Any], localize: bool = True, now: Callable[[], float] = time.time
    ) -> tuple[str, dict[str, Any]]:
        """Return type and event of what was received: in step with our clock, its time in our time zone.

        Args:
            body: the event as it was sent.
            localize: whether to move the time stamp into this process's time zone.
            now: tells the time, for ``local_received``.
        """
        kind = str(body["type"])
        if kind == "task-sent":
            body["clock"] = (self.clock.value or 1) + CLIENT_CLOCK_SKEW
            self.adjust_clock(body["clock"])
        elif body.get("clock") is not None:
            self.adjust_clock(body["clock"])
        else:
            body["clock"] = self.forward_clock()
        if localize and "utcoffset" in body and "timestamp" in body:
            body["timestamp"] -= (body["utcoffset"] - utc_offset_h()) * 3600
        body["local_received"] = now()
        return kind, body

    # -- what kombu's mixin asks for

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:
        """The one consumer of our queue."""
        return [Consumer(queues=[self.queue], callbacks=[self._receive], no_ack=True, accept=self.accept)]

    def on_consume_ready(
        self, connection: Any, channel: Any, consumers: Any, wakeup: bool = True, **_options: Any
    ) -> None:
        """Ask for heartbeats when events can arrive."""
        if wakeup:
            self.wakeup_workers(channel=channel)

    def _receive(self, body: Any, _message: Any) -> None:
        for event in body if isinstance(body, list) else (body,):
            self.process(*self.event_from_message(event))
