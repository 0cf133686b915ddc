"""A Celery application whose broker is reached through kombu: connection, consumers and the engine's settings."""

from __future__ import annotations

from typing import Any

from kombu.transport.virtual import Transport as VirtualTransport

from pyworker.worker.broker_options import connection_retry
from pyworker.worker.kombu_config import KombuBrokerConfig

try:
    from celery.worker.consumer.delayed_delivery import DelayedDelivery
except ImportError:
    # Celery before 5.5: its clients know of no delay levels.
    DelayedDelivery = None


def kombu_broker(app: Any, reason: str, prefetch_count: int) -> KombuBrokerConfig:
    """Return the engine's broker settings.

    Args:
        app: a ``celery.Celery``.
        reason: why there is no native way.
        prefetch_count: Celery's; 0 is no limit.
    """
    return KombuBrokerConfig(
        queues=tuple(dict.fromkeys(queue.name for queue in app.amqp.queues.consume_from.values())),
        reason=reason,
        prefetch_count=prefetch_count,
        retry=connection_retry(app.conf),
        retries_channel_errors=bool(app.conf.get("broker_channel_error_retry")),
    )


class KombuApplication:
    """What the thread that owns kombu's connection asks of a Celery application; mixed into the adapter."""

    app: Any
    _worker: Any

    def kombu_connection(self) -> Any:
        """Return a new connection for consuming, not opened yet."""
        return self.app.connection_for_read(heartbeat=self.app.conf.broker_heartbeat)

    def kombu_consumer(self, channel: Any, queue: str) -> Any:
        """Return a consumer of one queue, made by the application's own ``app.amqp``."""
        queues = self.app.amqp.queues
        known = [found for found in queues.consume_from.values() if found.name == queue]
        return self.app.amqp.TaskConsumer(channel, queues=known[:1] or [queues[queue]])

    def kombu_connected(self, connection: Any) -> None:
        """Set up the delay levels where quorum queues are configured, as Celery's step does."""
        if isinstance(connection.transport, VirtualTransport) or connection.transport.driver_type != "amqp":
            return
        if DelayedDelivery is None:
            return
        step = DelayedDelivery(self._worker.consumer)
        if step.include_if(self._worker.consumer):
            step.start(self._worker.consumer)
