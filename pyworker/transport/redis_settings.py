"""The settings of an app of ours that say where Redis is, as broker and as result store."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.redis_url import UrlRules, parse_redis_url

if TYPE_CHECKING:
    from pyworker.conf import Settings
    from pyworker.worker.config import RedisAddress

#: kombu's.
_HEALTH_CHECK_S = 25.0
_RESULT_SOCKET_TIMEOUT_S = 120.0
_STRATEGIES = (None, "round-robin", "shuffle")


def url_list(url: Any, setting: str) -> str:
    """Return the URL or URLs of a setting as one text, separated by ``;``.

    Raises:
        ImproperlyConfigured: it is neither text nor a list of texts.
    """
    urls = [url] if isinstance(url, str) else url
    if not isinstance(urls, (list, tuple)) or not all(isinstance(each, str) and each for each in urls) or not urls:
        raise ImproperlyConfigured(f"{setting}: must be a URL or a list of URLs, not {type(url).__name__}")
    return ";".join(urls)


def broker_address(conf: Settings, url: Any) -> RedisAddress:
    """Return the broker's address.

    Args:
        conf: the app's settings.
        url: the one of ``broker_url``, ``broker_read_url`` and ``broker_write_url`` that counts.

    Raises:
        ImproperlyConfigured: a setting is unusable; names it.
    """
    options = {"health_check_interval": _HEALTH_CHECK_S, **(conf.broker_transport_options or {})}
    rules = UrlRules(
        setting="broker_url",
        options=options,
        connect_timeout_s=conf.broker_connection_timeout,
        use_ssl=conf.broker_use_ssl,
    )
    address = parse_redis_url(url_list(url, "broker_url"), setting="broker_url", rules=rules)
    return in_order(address, conf.broker_failover_strategy)


def in_order(address: RedisAddress, strategy: Any) -> RedisAddress:
    """Return an address with its alternates in the order of ``broker_failover_strategy``.

    Raises:
        ImproperlyConfigured: the strategy is the application's own.
    """
    if not address.alternates:
        return address
    if strategy not in _STRATEGIES:
        raise ImproperlyConfigured(
            f"broker_failover_strategy: {strategy!r} is not supported with Redis; use round-robin or shuffle"
        )
    if strategy != "shuffle":
        return address
    servers = [replace(address, alternates=()), *address.alternates]
    random.shuffle(servers)
    return replace(servers[0], alternates=tuple(servers[1:]))


def result_address(conf: Settings, url: str) -> RedisAddress:
    """Return the result store's address.

    Raises:
        ImproperlyConfigured: a setting is unusable; names it.
    """
    options = {
        "socket_timeout": conf.redis_socket_timeout or _RESULT_SOCKET_TIMEOUT_S,
        "socket_connect_timeout": conf.redis_socket_connect_timeout,
        "socket_keepalive": conf.redis_socket_keepalive,
        "health_check_interval": conf.redis_backend_health_check_interval,
        "host": conf.redis_host,
        "port": conf.redis_port,
        "db": conf.redis_db,
        "username": conf.redis_username,
        "password": conf.redis_password,
        "client_name": conf.redis_client_name,
        "credential_provider": conf.redis_backend_credential_provider,
        **(conf.result_backend_transport_options or {}),
    }
    rules = UrlRules(
        setting="result_backend",
        options=options,
        use_ssl=conf.redis_backend_use_ssl,
        ssl_setting="redis_backend_use_ssl",
        may_leave_out_ssl=False,
        may_list=False,
        # What Celery's own store takes for a Sentinel URL without a port.
        sentinel_port=int(conf.redis_port or 6379),
    )
    return parse_redis_url(url, setting="result_backend", rules=rules)
