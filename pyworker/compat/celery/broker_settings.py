"""The broker's settings of a Celery application, as the engine takes them.

A native transport is used only where the settings are plain data and the transport is kombu's own for Redis, with or
without Sentinel; everything else goes through kombu (:class:`NotNative`), never approximated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from kombu.transport.redis import Channel, SentinelChannel, SentinelTransport, Transport
from kombu.utils.url import url_to_parts

from pyworker.exceptions import ImproperlyConfigured
from pyworker.redacting import after_credentials
from pyworker.transport.native_paths import NotNative
from pyworker.transport.redis_settings import in_order
from pyworker.transport.redis_url import UrlRules, credential_source, sentinel_nodes
from pyworker.transport.tls_settings import tls_settings
from pyworker.worker.broker_options import connection_retry, owner_name, reading_order
from pyworker.worker.config import RedisAddress, RedisBrokerConfig
from pyworker.worker.redis_config import SentinelSettings, TlsSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = get_logger("celery.worker")

#: Options of kombu's Redis channel that shape producers, fan-out, kombu's own pool or its own sweeper.
_WITHOUT_EFFECT = frozenset(
    {
        "max_connections",
        "fanout_prefix",
        "fanout_patterns",
        "unacked_mutex_key",
        "unacked_mutex_expire",
        "unacked_restore_limit",
        "unacked_restore_interval",
        "unacked_restore_throttle",
        "retry_on_timeout",
        "body_encoding",
        "deadletter_queue",
        "polling_interval",
        "reauth_check_interval",
        "sentinel_fanout_compat",
    }
)
_APPLIED = frozenset(
    {
        "sep",
        "unacked_key",
        "unacked_index_key",
        "visibility_timeout",
        "global_keyprefix",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "queue_order_strategy",
        "health_check_interval",
        "priority_steps",
        "client_name",
        "master_name",
        "min_other_sentinels",
        "sentinel_kwargs",
    }
)
_DEFAULT_HEALTH_CHECK_S = 25.0


def redis_broker(app: Any, hostname: str) -> RedisBrokerConfig:
    """Return the engine's broker settings.

    Raises:
        ImproperlyConfigured: the broker or one of its options is not supported yet.
    """
    connection = app.connection_for_read()
    _require_native(connection)
    options: Mapping[str, Any] = connection.transport_options
    _require_plain(options)
    queues = queue_names(app)
    order, queues = reading_order(options.get("queue_order_strategy", Channel.queue_order_strategy), queues)
    return RedisBrokerConfig(
        address=_addresses(app, connection, options),
        queues=queues,
        owner=owner_name(hostname),
        priority_steps=tuple(int(step) for step in options.get("priority_steps", Channel.priority_steps)),
        separator=str(options.get("sep", Channel.sep)),
        global_keyprefix=str(options.get("global_keyprefix", Channel.global_keyprefix)),
        queue_order=order,
        visibility_timeout_s=float(options.get("visibility_timeout", Channel.visibility_timeout)),
        unacked_key=str(options.get("unacked_key", Channel.unacked_key)),
        unacked_index_key=str(options.get("unacked_index_key", Channel.unacked_index_key)),
        retry=connection_retry(app.conf),
    )


def _require_native(connection: Any) -> None:
    transport = connection.get_transport_cls()
    if transport not in (Transport, SentinelTransport):
        name = connection.transport_cls
        name = name if isinstance(name, str) else f"{transport.__module__}.{transport.__qualname__}"
        raise NotNative(f"the transport {name!r} has no native counterpart")
    if callable(connection.password):
        raise ImproperlyConfigured("broker_password: a callable is not supported with Redis; use a credential_provider")


def _require_plain(options: Mapping[str, Any]) -> None:
    if not options.get("ack_emulation", True):
        raise NotNative("broker_transport_options: only kombu knows ack_emulation=False")
    known = set(SentinelChannel.from_transport_options) | {"credential_provider", "ssl", "connection_class"}
    unsupported = sorted((set(options) & known) - _APPLIED - _WITHOUT_EFFECT - {"ack_emulation"})
    for name in unsupported:
        if options[name]:
            raise NotNative(f"broker_transport_options: only kombu knows {name}")
    for name in _APPLIED & set(options):
        if callable(options[name]):
            raise NotNative(f"broker_transport_options: {name} is a function of the application")


def queue_names(app: Any) -> tuple[str, ...]:
    queues = app.amqp.queues.consume_from
    for queue in queues.values():
        if queue.exchange is not None and queue.exchange.type == "fanout":
            raise NotNative(f"task_queues: {queue.name} is bound to the fanout exchange {queue.exchange.name!r}")
    return tuple(dict.fromkeys(queue.name for queue in queues.values()))


def _addresses(app: Any, connection: Any, options: Mapping[str, Any]) -> RedisAddress:
    """The servers in the order in which kombu would try them."""
    timeout = app.conf.broker_connection_timeout
    first = _address(connection, options, timeout)
    if connection.get_transport_cls() is SentinelTransport:
        return replace(first, host="", port=0, sentinel=_sentinel(connection, options, first, timeout))
    others = []
    for url in connection.alt[1:]:
        other = connection.clone()
        other.switch(url)
        if other.get_transport_cls() is not Transport:
            raise ImproperlyConfigured(
                f"broker_url: alternate URLs must all lead to Redis, not to {other.transport_cls!r}"
            )
        others.append(_address(other, options, timeout))
    return in_order(replace(first, alternates=tuple(others)), app.conf.broker_failover_strategy)


def _sentinel(connection: Any, options: Mapping[str, Any], servers: RedisAddress, timeout: Any) -> SentinelSettings:
    if not options.get("master_name"):
        raise ImproperlyConfigured("broker_transport_options: 'master_name' transport option must be specified.")
    default_port = SentinelTransport.default_port
    parts = [url_to_parts(url) for url in connection.alt]
    places = [(part.hostname, part.port or default_port) for part in parts if part.scheme == "sentinel"]
    rules = UrlRules(setting="broker_transport_options", options=options, connect_timeout_s=timeout)
    return SentinelSettings(
        nodes=sentinel_nodes(places or [(servers.host, servers.port)], options.get("sentinel_kwargs"), rules),
        master_name=str(options["master_name"]),
        min_other_sentinels=int(options.get("min_other_sentinels") or 0),
    )


def _tls(connection: Any) -> TlsSettings | None:
    given = connection.ssl
    if not given:
        return None
    if not isinstance(given, dict):
        # kombu wants a dictionary, and connects without TLS where there is none.
        logger.warning("broker_use_ssl is no dictionary of ssl_* parameters: the connection to Redis is not encrypted")
        return None
    return tls_settings(given, setting="broker_use_ssl")


def _address(connection: Any, options: Mapping[str, Any], connection_timeout: Any) -> RedisAddress:
    """Build the address as kombu's Redis channel builds its connection parameters."""
    host = connection.hostname or "127.0.0.1"
    username, password, virtual_host = connection.userid, connection.password, connection.virtual_host
    provider = getattr(connection, "credential_provider", None)
    unix_path = None
    if "://" in host:
        parts = url_to_parts(host)
        if parts.scheme != "socket":
            raise ImproperlyConfigured(f"broker_url: {parts.scheme!r} behind redis+ is not supported")
        host, unix_path = "localhost", f"/{parts.path}"
        username, password = parts.username, parts.password
        virtual_host = parts.query.get("virtual_host", virtual_host)
        provider = parts.query.get("credential_provider", provider)
    source = credential_source(provider, "broker_url")
    connect_timeout = options.get("socket_connect_timeout") or connection_timeout
    socket_timeout = options.get("socket_timeout")
    return RedisAddress(
        host=host,
        port=int(connection.port or connection.get_transport_cls().default_port),
        unix_path=unix_path,
        database=_database(virtual_host),
        username=None if source else username or None,
        password=None if source else password or None,
        client_name=options.get("client_name"),
        connect_timeout_s=float(connect_timeout or 4.0),
        socket_timeout_s=float(socket_timeout) if socket_timeout else None,
        keepalive=bool(options.get("socket_keepalive")),
        health_check_interval_s=float(options.get("health_check_interval", _DEFAULT_HEALTH_CHECK_S) or 0),
        tls=_tls(connection) if unix_path is None else None,
        credential_source=source,
    )


def _database(virtual_host: Any) -> int:
    if isinstance(virtual_host, int):
        return virtual_host
    text = str(virtual_host or "").removeprefix("/") or "0"
    try:
        return int(text)
    except ValueError:
        shown = after_credentials(str(virtual_host))
        raise ImproperlyConfigured(f"broker_url: Database is int between 0 and limit - 1, not {shown}") from None
