"""An app of ours whose broker is reached through kombu: its connection, its consumers and the engine's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu import Consumer
from kombu.common import Broadcast

from pyworker.routing import Router
from pyworker.transport.amqp_queues import kombu_queue
from pyworker.worker.kombu_config import KombuBrokerConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.app import Celery
    from pyworker.worker.config import RetryPolicy


def kombu_broker(
    app: Celery, reason: str, names: Sequence[str], prefetch_count: int, retry: RetryPolicy
) -> KombuBrokerConfig:
    """Return the engine's broker settings.

    Args:
        app: the app.
        reason: why there is no native way.
        names: the queues to consume from.
        prefetch_count: Celery's; 0 is no limit.
        retry: the rule for lost connections.
    """
    return KombuBrokerConfig(
        queues=tuple(names),
        reason=reason,
        prefetch_count=prefetch_count,
        retry=retry,
        retries_channel_errors=bool(app.conf.broker_channel_error_retry),
    )


class KombuApplication:
    """What the thread that owns kombu's connection asks of an app; mixed into the worker's view of it."""

    app: Celery

    def kombu_connection(self) -> Any:
        """Return a new connection for consuming, not opened yet."""
        return self.app.connection_for_read(heartbeat=self.app.conf.broker_heartbeat)

    def kombu_consumer(self, channel: Any, queue: str) -> Any:
        """Return a consumer of one queue."""
        conf = self.app.conf
        entity = kombu_queue(conf, Router(conf), queue)
        if isinstance(entity, Broadcast):
            # Its name is made up for each worker: what is known by the name of the exchange is not it.
            entity = entity(channel)
        return Consumer(channel, queues=[entity], accept=conf.accept_content)

    def kombu_connected(self, connection: Any) -> None:
        """Nothing to prepare."""
