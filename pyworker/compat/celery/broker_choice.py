"""Which of the engine's brokers an application's settings name: a native one, or kombu's transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.compat.celery.amqp_settings import amqp_broker, is_rabbitmq
from pyworker.compat.celery.broker_settings import redis_broker
from pyworker.compat.celery.kombu_settings import kombu_broker
from pyworker.compat.celery.sqlite_settings import is_sqlite, sqlite_broker
from pyworker.transport.native_paths import BrokerPath, NotNative, loadable, require_plain

if TYPE_CHECKING:
    from pyworker.transport.amqp_config import AmqpBrokerConfig
    from pyworker.worker.config import RedisBrokerConfig
    from pyworker.worker.kombu_config import KombuBrokerConfig
    from pyworker.worker.sqlite_config import SqliteBrokerConfig

    NativeBroker = RedisBrokerConfig | AmqpBrokerConfig | SqliteBrokerConfig


def broker_config(app: Any, hostname: str, prefetch_count: int = 0) -> NativeBroker | KombuBrokerConfig:
    """Return the engine's broker settings.

    Args:
        app: a ``celery.Celery``.
        hostname: the node's name.
        prefetch_count: Celery's, for a broker behind kombu.

    Raises:
        ImproperlyConfigured: one of the options makes no sense, or a setting of a native broker is not supported yet.
    """
    try:
        return _native(app, hostname)
    except NotNative as error:
        return kombu_broker(app, str(error), prefetch_count)


def broker_path(app: Any) -> BrokerPath:
    """Return how a worker would reach the broker; connects to nothing.

    Raises:
        ImproperlyConfigured: as :func:`broker_config`.
    """
    connection = loadable(app.connection_for_read)
    name = connection.transport_cls
    name = name if isinstance(name, str) else f"{name.__module__}.{name.__qualname__}"
    try:
        config = _native(app, "check")
    except NotNative as error:
        return BrokerPath(name, False, str(error))
    return BrokerPath(name, True, {"amqp": "RabbitMQ", "redis": "Redis", "sqlite": "SQLite"}[config.kind])


def _native(app: Any, hostname: str) -> NativeBroker:
    connection = loadable(app.connection_for_read)
    require_plain("broker_use_ssl", connection.ssl)
    if is_rabbitmq(app):
        if callable(connection.failover_strategy) and callable(app.conf.broker_failover_strategy):
            raise NotNative("broker_failover_strategy is a function of the application")
        return amqp_broker(app, hostname)
    return sqlite_broker(app, hostname) if is_sqlite(app) else redis_broker(app, hostname)
