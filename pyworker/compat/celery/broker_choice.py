"""Which of the engine's brokers an application's settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.compat.celery.amqp_settings import amqp_broker, is_rabbitmq
from pyworker.compat.celery.broker_settings import redis_broker
from pyworker.compat.celery.sqlite_settings import is_sqlite, sqlite_broker

if TYPE_CHECKING:
    from pyworker.transport.amqp_config import AmqpBrokerConfig
    from pyworker.worker.config import RedisBrokerConfig
    from pyworker.worker.sqlite_config import SqliteBrokerConfig


def broker_config(app: Any, hostname: str) -> RedisBrokerConfig | AmqpBrokerConfig | SqliteBrokerConfig:
    """Return the engine's broker settings.

    Raises:
        ImproperlyConfigured: the broker or one of its options is not supported yet.
    """
    if is_rabbitmq(app):
        return amqp_broker(app, hostname)
    return sqlite_broker(app, hostname) if is_sqlite(app) else redis_broker(app, hostname)
