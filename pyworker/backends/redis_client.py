"""A redis-py client for an address of the native side: both reach the same server the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.sentinel import Sentinel

from pyworker.transport.tls_settings import redis_py_parameters

if TYPE_CHECKING:
    from pyworker.worker.config import RedisAddress
    from pyworker.worker.redis_config import SentinelSettings


def connect(
    address: RedisAddress, max_connections: int | None = None, *, retry_on_timeout: bool = False
) -> redis.Redis:
    """Return a client of the server at an address, not connected yet.

    Args:
        address: the server, or the Sentinels that know it.
        max_connections: bound of the client's pool.
        retry_on_timeout: send a command again whose answer did not come in time.
    """
    parameters = {**_common(address), "db": address.database, "max_connections": max_connections}
    parameters["client_name"] = address.client_name
    if retry_on_timeout and int(redis.__version__.partition(".")[0]) < 6:
        # Later versions do by default.
        parameters["retry_on_timeout"] = True
    if address.unix_path:
        return redis.Redis(unix_socket_path=address.unix_path, **parameters)
    if address.sentinel:
        return _primary(address.sentinel, parameters)
    return redis.Redis(host=address.host, port=address.port, **parameters)


def connect_async(address: RedisAddress) -> Any:
    """Return the same for an event loop; who waits opens a lost connection again by its own rule."""
    parameters = {**_common(address), "db": address.database, "retry": Retry(NoBackoff(), 0)}
    if address.unix_path:
        return redis.asyncio.Redis(unix_socket_path=address.unix_path, **parameters)
    if address.sentinel:
        watchers = redis.asyncio.sentinel.Sentinel(**_watchers(address.sentinel))  # type: ignore[no-untyped-call]
        return watchers.master_for(address.sentinel.master_name, **parameters)
    return redis.asyncio.Redis(host=address.host, port=address.port, **parameters)


def _common(address: RedisAddress) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "socket_timeout": address.socket_timeout_s,
        "socket_connect_timeout": address.connect_timeout_s,
        "socket_keepalive": address.keepalive,
        "health_check_interval": address.health_check_interval_s,
    }
    if address.credential_source:
        parameters["credential_provider"] = address.credential_source.provider
    else:
        parameters["username"] = address.username
        parameters["password"] = address.password
    if address.tls:
        parameters |= {"ssl": True, **redis_py_parameters(address.tls)}
    return parameters


def _primary(settings: SentinelSettings, parameters: dict[str, Any]) -> redis.Redis:
    watchers = Sentinel(**_watchers(settings))  # type: ignore[no-untyped-call]
    client: redis.Redis = watchers.master_for(settings.master_name, **parameters)  # type: ignore[no-untyped-call]
    return client


def _watchers(settings: SentinelSettings) -> dict[str, Any]:
    return {
        "sentinels": [(node.host, node.port) for node in settings.nodes],
        "min_other_sentinels": settings.min_other_sentinels,
        # Sentinels share one set of parameters.
        "sentinel_kwargs": _common(settings.nodes[0]),
    }
