"""The engine's broker settings where an app of ours is on RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.routing import Router
from pyworker.transport.amqp_config import AmqpBrokerConfig
from pyworker.transport.amqp_queues import kombu_queue
from pyworker.transport.amqp_settings import amqp_addresses
from pyworker.transport.amqp_topology import (
    declarations_of,
    delay_levels,
    queue_of,
    upstream_delay_bindings,
    uses_quorum_queues,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.app import Celery
    from pyworker.worker.config import RetryPolicy


def amqp_broker(app: Celery, url: Any, hostname: str, names: Sequence[str], retry: RetryPolicy) -> AmqpBrokerConfig:
    """Return the engine's broker settings.

    Args:
        app: the app.
        url: its broker's URL or URLs.
        hostname: the node's name.
        names: the queues to consume from.
        retry: the rule for lost connections.

    Raises:
        ImproperlyConfigured: a setting is unusable; names it.
    """
    conf = app.conf
    router = Router(conf)
    queues = [kombu_queue(conf, router, name) for name in names]
    consumed = tuple(queue_of(queue) for queue in queues)
    levels = delay_levels(consumed, conf.broker_native_delayed_delivery_queue_type or "quorum")
    declarations = declarations_of(queues)
    # Clients look at every queue there is, not at those that this worker consumes from.
    if uses_quorum_queues([*queues, *(kombu_queue(conf, router, known.name) for known in router.queues())]):
        declarations += levels + upstream_delay_bindings(queues)
    return AmqpBrokerConfig(
        addresses=amqp_addresses(conf, url, f"pyworker {hostname}"),
        queues=consumed,
        declarations=declarations,
        delay_declarations=levels,
        shuffle=conf.broker_failover_strategy == "shuffle",
        retry=retry,
    )
