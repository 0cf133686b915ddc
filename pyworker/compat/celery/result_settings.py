"""Whether results can be written natively, and where to."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from celery.backends.redis import RedisBackend, SentinelBackend

from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.redis_url import UrlRules, credential_source, sentinel_nodes
from pyworker.transport.tls_settings import tls_settings
from pyworker.worker.broker_options import retry_of
from pyworker.worker.config import RedisAddress, RedisResultConfig
from pyworker.worker.redis_config import SentinelSettings, TlsSettings

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
        "credential_provider",
        "hosts",
    }
)
_CONNECT_TIMEOUT_S = 4.0
#: The methods between a task's end and the socket; replaced ones are the application's business.
_WRITING = ("store_result", "_store_result", "_set_with_state", "set", "_set", "encode", "encode_result")


def redis_results(app: Any) -> RedisResultConfig | None:
    """Return the native result store's settings, ``None`` if children must write through Celery's backend."""
    backend = app.backend
    if type(backend) not in (RedisBackend, SentinelBackend) or not is_unpatched(backend):
        return None
    parameters = backend.connparams
    if {name for name in parameters if not name.startswith("ssl_")} - _PLAIN or backend._ConnectionPool is not None:
        return None
    if getattr(backend, "failure_expires", backend.expires) != backend.expires:
        return None
    try:
        address = _address(backend, parameters)
    except ImproperlyConfigured:
        # What only redis-py can do.
        return None
    return RedisResultConfig(
        address=address,
        expires_s=int(backend.expires) if backend.expires else None,
        retry=retry_of(backend.retry_policy),
    )


def _address(backend: Any, parameters: dict[str, Any]) -> RedisAddress:
    """Build the address that redis-py would connect to."""
    is_unix = parameters.get("connection_class") is backend.redis.UnixDomainSocketConnection
    source = credential_source(parameters.get("credential_provider"), "result_backend")
    return RedisAddress(
        host=parameters.get("host") or "localhost",
        port=int(parameters.get("port") or 6379),
        unix_path=parameters.get("path") if is_unix else None,
        database=int(parameters.get("db") or 0),
        username=None if source else parameters.get("username") or None,
        password=None if source else parameters.get("password") or None,
        client_name=parameters.get("client_name"),
        connect_timeout_s=float(parameters.get("socket_connect_timeout") or _CONNECT_TIMEOUT_S),
        socket_timeout_s=parameters.get("socket_timeout"),
        keepalive=bool(parameters.get("socket_keepalive")),
        health_check_interval_s=float(parameters.get("health_check_interval") or 0.0),
        tls=None if is_unix else _tls(backend, parameters),
        sentinel=_sentinel(backend, parameters) if type(backend) is SentinelBackend else None,
        credential_source=source,
    )


def _tls(backend: Any, parameters: dict[str, Any]) -> TlsSettings | None:
    connection_class = parameters.get("connection_class")
    if connection_class is None:
        return None
    if connection_class not in (backend.redis.SSLConnection, backend.connection_class_ssl):
        raise ImproperlyConfigured(f"result_backend: {connection_class!r} is the application's own")
    named = {name: value for name, value in parameters.items() if name.startswith("ssl_")}
    return tls_settings(named, setting="redis_backend_use_ssl")


def _sentinel(backend: Any, parameters: dict[str, Any]) -> SentinelSettings:
    options = backend._transport_options
    name = options.get("master_name")
    if not name:
        # redis-py says it when it is used.
        raise ImproperlyConfigured("result_backend_transport_options: master_name must be specified")
    places = [(host["host"], int(host["port"])) for host in parameters["hosts"]]
    rules = UrlRules(setting="result_backend_transport_options", connect_timeout_s=_CONNECT_TIMEOUT_S)
    return SentinelSettings(
        nodes=sentinel_nodes(places, options.get("sentinel_kwargs", {}), rules),
        master_name=str(name),
        min_other_sentinels=int(options.get("min_other_sentinels", 0)),
    )


def is_unpatched(backend: Any) -> bool:
    """Whether every method on the way of a result is Celery's own."""
    for name in _WRITING:
        method = getattr(type(backend), name, None)
        if name in vars(backend):
            return False
        if method is not None and not _is_own(type(backend), method):
            return False
    return True


def _is_own(backend_type: type, method: Any) -> bool:
    """Whether the code of a method comes from one of the files that make the backend."""
    files = {getattr(sys.modules.get(owner.__module__), "__file__", None) for owner in backend_type.__mro__}
    return inspect.isfunction(method) and method.__code__.co_filename in files
