"""The consumer's steps around events: connection, dispatcher, mingle, heart."""

from __future__ import annotations

import contextlib
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.utils.sysinfo import load_average
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle
from celery.worker.heartbeat import Heart
from celery.worker.state import SOFTWARE_INFO

from pyworker.redacting import connection_info
from pyworker.worker.broker_line import LinePart
from pyworker.worker.neighbours import count_mailboxes
from pyworker.worker.redis_line import leave_channel, own_channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyworker._native import Engine


class ConnectionStep(bootsteps.StartStopStep):
    """Gives the consumer a connection that opens when a step of the application uses it."""

    name = "celery.worker.consumer.connection.Connection"

    def start(self, consumer: Any) -> None:
        consumer.connection = consumer.app.connection_for_read(heartbeat=consumer.app.conf.broker_heartbeat)

    def shutdown(self, consumer: Any) -> None:
        connection, consumer.connection = consumer.connection, None
        if connection is not None:
            connection.release()

    def info(self, consumer: Any) -> dict[str, Any]:
        connection = consumer.connection or consumer.app.connection_for_read()
        return {"broker": connection_info(connection.info())}


class EngineHeart(Heart):
    """Celery's heart with the engine's figures."""

    engine: Engine | None = None

    def _send(self, event: str, retry: bool = True) -> Any:
        if self._send_sent_signal is not None:
            self._send_sent_signal(sender=self)
        counters: Mapping[str, int] = self.engine.counters() if self.engine is not None else {}
        return self.eventer.send(
            event,
            freq=self.interval,
            active=counters.get("active", 0),
            processed=counters.get("started", 0),
            loadavg=load_average(),
            retry=retry,
            **SOFTWARE_INFO,
        )


class EventsStep(bootsteps.StartStopStep):
    """Turns the dispatcher on."""

    name = "celery.worker.consumer.events.Events"
    requires = (ConnectionStep,)

    def __init__(
        self,
        consumer: Any,
        task_events: bool = True,
        without_heartbeat: bool = False,
        without_gossip: bool = False,
        **options: Any,
    ) -> None:
        self.enabled = bool(task_events or not without_gossip or not without_heartbeat)
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        consumer.event_dispatcher.enable()
        consumer.controller.task_events_changed()

    def shutdown(self, consumer: Any) -> None:
        consumer.event_dispatcher.disable()
        consumer.controller.task_events_changed()


class HeartStep(bootsteps.StartStopStep):
    """Sends ``worker-online``, heartbeats and ``worker-offline``."""

    name = "celery.worker.consumer.heart.Heart"
    requires = (EventsStep,)

    def __init__(
        self, consumer: Any, without_heartbeat: bool = False, heartbeat_interval: float | None = None, **options: Any
    ) -> None:
        self.enabled = not without_heartbeat
        self._interval_s = heartbeat_interval
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        heart = EngineHeart(consumer.timer, consumer.event_dispatcher, self._interval_s)
        heart.engine = consumer.engine
        consumer.heart = heart
        heart.start()

    def stop(self, consumer: Any) -> None:
        consumer.heart = consumer.heart and consumer.heart.stop()

    shutdown = stop


@contextlib.contextmanager
def _without_pool(mailbox: Any) -> Iterator[None]:
    """Have a mailbox publish on its own connection: one of the application's pool would stay open for good."""
    pool, mailbox.producer_pool = mailbox.producer_pool, None
    try:
        yield
    finally:
        mailbox.producer_pool = pool


class MingleStep(Mingle):
    """Celery's mingle, done before the engine consumes: see :meth:`mingle`."""

    #: Ours can broadcast as well.
    compatible_transports = Mingle.compatible_transports | {"sqlite"}
    name = "celery.worker.consumer.mingle.Mingle"
    requires = (EventsStep,)

    def __init__(self, consumer: Any, without_mingle: bool = False, **options: Any) -> None:
        super().__init__(consumer, without_mingle=without_mingle, **options)
        consumer.mingle = self.mingle if self.enabled else None

    def start(self, consumer: Any) -> None:
        """Do nothing: it is done."""

    def mingle(self, consumer: Any) -> None:
        """Get the revoked ids and the clock of the other workers."""
        mailbox = consumer.app.control.mailbox
        with consumer.app.connection_for_read() as connection, _without_pool(mailbox):
            # Where it can be known, nobody has to wait a second for answers that never come.
            neighbours = count_mailboxes(connection.default_channel, mailbox.exchange.name, consumer.hostname)
            inspect = partial(consumer.app.control.inspect, limit=neighbours)
            view = SimpleNamespace(
                app=SimpleNamespace(control=SimpleNamespace(inspect=inspect), clock=consumer.app.clock),
                connection=connection,
                controller=consumer.controller,
                hostname=consumer.hostname,
                nobody=neighbours == 0,
            )
            self.sync(view)

    def send_hello(self, consumer: Any) -> Any:
        """Ask, unless nobody is there to answer."""
        return {} if getattr(consumer, "nobody", False) else super().send_hello(consumer)


class _GossipPart(LinePart):
    """Gossip's listening, a part of the node's broker line."""

    name = "gossip"

    def __init__(self, step: GossipStep) -> None:
        self._step = step

    def open(self, connection: Any) -> None:
        """Listen on a new connection."""
        self._step.consumers = self._step.get_consumers(own_channel(connection))
        for consumer in self._step.consumers:
            consumer.consume()

    def close(self) -> None:
        """Listen no more."""
        consumers, self._step.consumers = self._step.consumers or [], None
        for consumer in consumers:
            consumer.cancel()
            leave_channel(consumer.channel)


class GossipStep(Gossip):
    """Celery's gossip on the node's broker line."""

    name = "celery.worker.consumer.gossip.Gossip"
    requires = (MingleStep,)
    _part: _GossipPart | None = None

    def start(self, consumer: Any) -> None:
        """Begin to listen to the other workers."""
        self.dispatcher = consumer.event_dispatcher
        self._part = _GossipPart(self)
        consumer.line.add(self._part)

    def stop(self, consumer: Any) -> None:
        """Listen no more."""
        part, self._part = self._part, None
        if part is not None:
            consumer.line.remove(part)

    shutdown = stop
