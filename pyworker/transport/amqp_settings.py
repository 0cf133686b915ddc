"""The settings of an app of ours that say where RabbitMQ is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.amqp_url import parse_amqp_urls

if TYPE_CHECKING:
    from pyworker.conf import Settings
    from pyworker.transport.amqp_config import AmqpAddress

_STRATEGIES = (None, "round-robin", "shuffle")


def amqp_addresses(conf: Settings, url: Any, connection_name: str) -> tuple[AmqpAddress, ...]:
    """Return the servers of a broker setting.

    Raises:
        ImproperlyConfigured: a setting is unusable or not supported yet; names it.
    """
    if conf.broker_failover_strategy not in _STRATEGIES:
        raise ImproperlyConfigured(
            f"broker_failover_strategy: {conf.broker_failover_strategy!r} is not supported; use round-robin or shuffle"
        )
    defaults = {
        "hostname": conf.broker_host,
        "port": conf.broker_port,
        "userid": conf.broker_user,
        "password": conf.broker_password,
        "virtual_host": conf.broker_vhost,
        "login_method": conf.broker_login_method,
        "ssl": conf.broker_use_ssl,
    }
    return parse_amqp_urls(
        url,
        setting="broker_url",
        defaults=defaults,
        connect_timeout_s=conf.broker_connection_timeout,
        heartbeat_s=conf.broker_heartbeat,
        connection_name=connection_name,
    )
