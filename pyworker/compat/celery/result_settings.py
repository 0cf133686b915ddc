"""Whether results can be written natively, and where to."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from celery.backends.redis import RedisBackend

from pyworker.worker.config import RedisAddress, RedisResultConfig, RetryPolicy

#: Connection parameters of redis-py that the native side applies or that only name the driver.
_PLAIN = frozenset(
    {
        "host",
        "port",
        "db",
        "username",
        "password",
        "max_connections",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "health_check_interval",
        "retry_on_timeout",
        "client_name",
        "driver_info",
        "lib_name",
        "lib_version",
        "path",
        "connection_class",
    }
)
#: The methods between a task's end and the socket; replaced ones are the application's business.
_WRITING = ("store_result", "_store_result", "_set_with_state", "set", "_set", "encode", "encode_result")


def redis_results(app: Any) -> RedisResultConfig | None:
    """Return the native result store's settings, ``None`` if children must write through Celery's backend."""
    backend = app.backend
    if type(backend) is not RedisBackend or not is_unpatched(backend):
        return None
    parameters = backend.connparams
    if set(parameters) - _PLAIN or backend._ConnectionPool is not None:
        return None
    if getattr(backend, "failure_expires", backend.expires) != backend.expires:
        return None
    connection_class = parameters.get("connection_class")
    is_unix = connection_class is not None
    if is_unix and connection_class is not backend.redis.UnixDomainSocketConnection:
        return None
    return RedisResultConfig(
        address=RedisAddress(
            host=parameters.get("host") or "localhost",
            port=int(parameters.get("port") or 6379),
            unix_path=parameters.get("path") if is_unix else None,
            database=int(parameters.get("db") or 0),
            username=parameters.get("username") or None,
            password=parameters.get("password") or None,
            client_name=parameters.get("client_name"),
            connect_timeout_s=float(parameters.get("socket_connect_timeout") or 4.0),
            socket_timeout_s=parameters.get("socket_timeout"),
            keepalive=bool(parameters.get("socket_keepalive")),
            health_check_interval_s=float(parameters.get("health_check_interval") or 0.0),
        ),
        expires_s=int(backend.expires) if backend.expires else None,
        retry=_retry(backend.retry_policy),
    )


def is_unpatched(backend: Any) -> bool:
    """Whether every method on the way of a result is Celery's own."""
    for name in _WRITING:
        method = getattr(type(backend), name, None)
        if name in vars(backend):
            return False
        if method is not None and not _is_celerys(method):
            return False
    return True


def _is_celerys(method: Any) -> bool:
    """Whether the code of a method comes from one of the files that make the backend."""
    files = {getattr(sys.modules.get(owner.__module__), "__file__", None) for owner in RedisBackend.__mro__}
    return inspect.isfunction(method) and method.__code__.co_filename in files


def _retry(policy: dict[str, Any]) -> RetryPolicy:
    return RetryPolicy(
        max_retries=policy.get("max_retries"),
        interval_start_s=float(policy.get("interval_start") or 0.0),
        interval_step_s=float(policy.get("interval_step") or 0.0),
        interval_max_s=float(policy.get("interval_max") or 0.0),
    )
