"""RabbitMQ's settings of a Celery application, as the engine takes them."""

from __future__ import annotations

from typing import Any

from kombu.transport.pyamqp import SSLTransport, Transport

from pyworker.compat.celery.result_settings import is_unpatched
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.amqp_config import AmqpAddress, AmqpBrokerConfig, AmqpResultConfig
from pyworker.transport.amqp_topology import (
    declarations_of,
    delay_levels,
    queue_of,
    upstream_delay_bindings,
    uses_quorum_queues,
)
from pyworker.transport.amqp_url import address_of, parse_amqp_urls
from pyworker.worker.broker_options import connection_retry, retry_of

_QUEUE_TYPES = ("classic", "quorum")


def is_rabbitmq(app: Any) -> bool:
    """Whether the application's broker is RabbitMQ through kombu's own transport."""
    return app.connection_for_read().get_transport_cls() in (Transport, SSLTransport)


def amqp_broker(app: Any, hostname: str) -> AmqpBrokerConfig:
    """Return the engine's broker settings.

    Raises:
        ImproperlyConfigured: a setting is unusable or not supported yet; names it.
    """
    conf = app.conf
    queues = list({queue.name: queue for queue in app.amqp.queues.consume_from.values()}.values())
    queue_type = conf.get("broker_native_delayed_delivery_queue_type") or "quorum"
    if queue_type not in _QUEUE_TYPES:
        raise ImproperlyConfigured(
            f"broker_native_delayed_delivery_queue_type: {queue_type!r} is not one of {', '.join(_QUEUE_TYPES)}"
        )
    consumed = tuple(queue_of(queue) for queue in queues)
    levels = delay_levels(consumed, queue_type)
    declarations = declarations_of(queues)
    if uses_quorum_queues(app.amqp.queues.values()):
        # Stock clients publish a task with a countdown into the levels then, so these must be there from the start.
        declarations += levels + upstream_delay_bindings(queues)
    connection = app.connection_for_read()
    strategy = conf.broker_failover_strategy
    if strategy not in (None, "round-robin", "shuffle"):
        raise ImproperlyConfigured(
            f"broker_failover_strategy: {strategy!r} is not supported yet; use round-robin or shuffle"
        )
    return AmqpBrokerConfig(
        addresses=_addresses(connection, conf, hostname),
        queues=consumed,
        declarations=declarations,
        delay_declarations=levels,
        shuffle=strategy == "shuffle",
        retry=connection_retry(conf),
    )


def rpc_results(app: Any) -> AmqpResultConfig | None:
    """Return where ``rpc://`` results go natively, ``None`` if children must send them through Celery's backend."""
    backend = app.backend
    connection = app.connection_for_write()
    if connection.get_transport_cls() not in (Transport, SSLTransport) or not is_unpatched(backend):
        return None
    return AmqpResultConfig(addresses=_addresses(connection, app.conf, "results"), retry=retry_of(backend.retry_policy))


def _addresses(connection: Any, conf: Any, hostname: str) -> tuple[AmqpAddress, ...]:
    tls = connection.ssl or connection.get_transport_cls() is SSLTransport
    parts = {
        "hostname": connection.hostname,
        "port": connection.port,
        "userid": connection.userid,
        "password": connection.password,
        "virtual_host": connection.virtual_host,
        "login_method": connection.login_method,
        "ssl": tls,
    }
    timeout_s, heartbeat_s = conf.broker_connection_timeout, conf.broker_heartbeat
    name = f"pyworker {hostname}"
    if len(connection.alt) > 1:
        defaults = {"login_method": connection.login_method, "ssl": connection.ssl}
        return parse_amqp_urls(
            connection.alt, setting="broker_url", defaults=defaults, connect_timeout_s=timeout_s,
            heartbeat_s=heartbeat_s, connection_name=name,
        )  # fmt: skip
    return (
        address_of(
            parts, setting="broker_url", connect_timeout_s=timeout_s, heartbeat_s=heartbeat_s, connection_name=name
        ),
    )
