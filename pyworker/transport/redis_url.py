"""``redis://`` URLs and kombu's transport options as addresses of the native side.

Forms: ``redis://user:password@host:6379/0``, ``redis+socket:///path/redis.sock?virtual_host=0`` and
``unix:///path/redis.sock?db=0``; every part is optional. Query parameters that redis-py knows count as options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.config import RedisAddress

_PORT = 6379
_CONNECT_TIMEOUT_S = 4.0
_SOCKET_SCHEMES = frozenset({"redis+socket", "socket", "unix"})
#: Schemes that lead to a Redis server.
SCHEMES = frozenset({"redis"}) | _SOCKET_SCHEMES
_REFUSED = {
    "rediss": "TLS to Redis is not supported yet",
    "redis+sentinel": "Sentinel is not supported yet",
    "sentinel": "Sentinel is not supported yet",
}


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case; an alias without one (``redis``) is a scheme."""
    return url.partition("://")[0].lower()


def parse_redis_url(
    url: str,
    *,
    setting: str,
    options: Mapping[str, Any] | None = None,
    connect_timeout_s: float | None = None,
) -> RedisAddress:
    """Return the address that a URL names.

    Args:
        url: the URL; a list separated by ``;`` is refused.
        setting: the setting's name, for errors.
        options: kombu's transport options or redis-py's connection parameters.
        connect_timeout_s: used unless the options have one.

    Raises:
        ImproperlyConfigured: the URL is malformed or names what is not supported; names the setting.
    """
    scheme = scheme_of(url)
    if scheme in _REFUSED:
        raise ImproperlyConfigured(f"{setting}: {_REFUSED[scheme]}")
    if scheme not in SCHEMES:
        raise ImproperlyConfigured(f"{setting}: no transport for {scheme!r}; redis:// and redis+socket:// are known")
    if ";" in url:
        raise ImproperlyConfigured(f"{setting}: failover to alternate URLs is not supported yet")
    try:
        parts = urlsplit(url if "://" in url else f"{url}://")
        port = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"{setting}: {error}") from error
    query = dict(parse_qsl(parts.query))
    chosen = {**query, **(options or {})}
    is_socket = scheme in _SOCKET_SCHEMES
    database = query.get("virtual_host", query.get("db", "0")) if is_socket else _text(parts.path) or query.get("db")
    timeout = _seconds(chosen.get("socket_connect_timeout"), setting) or connect_timeout_s
    return RedisAddress(
        host=_unquoted(parts.hostname) or "localhost",
        port=port or _PORT,
        unix_path=unquote(parts.netloc.rpartition("@")[2] + parts.path) if is_socket else None,
        database=_database(database, setting),
        username=_unquoted(parts.username) or chosen.get("username") or None,
        password=_unquoted(parts.password) or chosen.get("password") or None,
        client_name=chosen.get("client_name"),
        connect_timeout_s=_CONNECT_TIMEOUT_S if timeout is None else timeout,
        socket_timeout_s=_seconds(chosen.get("socket_timeout"), setting),
        keepalive=_flag(chosen.get("socket_keepalive")),
        health_check_interval_s=_seconds(chosen.get("health_check_interval"), setting) or 0.0,
    )


def without_password(url: str) -> str:
    """Return a URL that can be shown."""
    head, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    return f"{head}{separator}{user}{':**' if colon and password else ''}{at}{place}"


def _text(path: str) -> str:
    return unquote(path).lstrip("/")


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _database(text: Any, setting: str) -> int:
    try:
        number = int(_text(str(text)) or 0) if text else 0
    except ValueError:
        number = -1
    if number < 0:
        raise ImproperlyConfigured(f"{setting}: Database is int between 0 and limit - 1, not {text}")
    return number


def _seconds(value: Any, setting: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ImproperlyConfigured(f"{setting}: {value!r} is no number of seconds") from None


def _flag(value: Any) -> bool:
    return value.lower() not in ("0", "false", "no", "off", "") if isinstance(value, str) else bool(value)
