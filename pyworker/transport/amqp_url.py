"""``amqp://`` URLs as addresses of the native side.

Forms: ``amqp://user:password@host:5672/virtual-host`` with any part missing, ``pyamqp://`` and ``librabbitmq://`` with
the same meaning, ``amqps://`` with TLS, and lists separated by ``;`` for failover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kombu.utils.url import parse_url

from pyworker.exceptions import ImproperlyConfigured
from pyworker.redacting import NOT_A_URL, without_password
from pyworker.transport.amqp_config import AmqpAddress, PasswordSource
from pyworker.transport.amqp_tls import amqp_tls

#: Schemes that lead to RabbitMQ.
SCHEMES = frozenset({"amqp", "pyamqp", "librabbitmq", "amqps"})
_TLS_SCHEME = "amqps"
_PORT, _TLS_PORT = 5672, 5671
_CONNECT_TIMEOUT_S = 4.0


def scheme_of(url: str) -> str:
    """Return the scheme in lower case; an alias without ``://`` is a scheme."""
    return url.partition("://")[0].lower()


def is_amqp(url: Any) -> bool:
    """Whether a ``broker_url`` (a URL or a list of them) names RabbitMQ."""
    first = url[0] if isinstance(url, (list, tuple)) and url else url
    return isinstance(first, str) and scheme_of(first) in SCHEMES


def split_urls(url: str | Sequence[str]) -> list[str]:
    """Return the URLs of a failover list."""
    parts = url if isinstance(url, (list, tuple)) else [url]
    return [one for part in parts for one in str(part).split(";") if one]


def parse_amqp_urls(
    url: str | Sequence[str],
    *,
    setting: str,
    defaults: Mapping[str, Any],
    connect_timeout_s: float | None,
    heartbeat_s: float | None,
    connection_name: str,
) -> tuple[AmqpAddress, ...]:
    """Return the addresses that a URL, a list of URLs or a ``;`` separated list names.

    Args:
        url: the URL or URLs; a part without a scheme has that of the first.
        setting: the setting's name, for errors.
        defaults: ``hostname``, ``port``, ``userid``, ``password``, ``virtual_host``, ``login_method``, ``ssl`` for
            what a URL does not say.
        connect_timeout_s: limit for opening a connection in seconds.
        heartbeat_s: wanted heartbeat in seconds; None or 0 is off.
        connection_name: shown in the server's lists.

    Raises:
        ImproperlyConfigured: a URL is malformed or names what is not supported; names the setting.
    """
    urls = split_urls(url)
    if not urls:
        raise ImproperlyConfigured(f"{setting} must be the URL of a broker")
    scheme = scheme_of(urls[0])
    found = []
    for one in urls:
        text = one if "://" in one or one.lower() in SCHEMES else f"{scheme}://{one}"
        own = scheme_of(text)
        if own not in SCHEMES:
            raise ImproperlyConfigured(f"{setting}: {without_password(own)!r} in a list of RabbitMQ servers")
        try:
            parts: dict[str, Any] = parse_url(text if "://" in text else f"{text}://")
        except ValueError:
            # Neither its text nor the URL: what it takes for a host or a port may be part of a password.
            raise ImproperlyConfigured(f"{setting}: the {own} URL {NOT_A_URL}") from None
        parts = {**defaults, **{key: value for key, value in parts.items() if value}}
        if own == _TLS_SCHEME:
            parts["ssl"] = parts.get("ssl") or True
        found.append(
            address_of(
                parts,
                setting=setting,
                connect_timeout_s=connect_timeout_s,
                heartbeat_s=heartbeat_s,
                connection_name=connection_name,
            )
        )
    return tuple(found)


def address_of(
    parts: Mapping[str, Any],
    *,
    setting: str,
    connect_timeout_s: float | None,
    heartbeat_s: float | None,
    connection_name: str,
) -> AmqpAddress:
    """Return the address of one server from the parts that kombu knows a connection by.

    Raises:
        ImproperlyConfigured: a part is unusable; names the setting.
    """
    password = parts.get("password")
    username = str(parts.get("userid") or "guest")
    tls = amqp_tls(parts.get("ssl"))
    host = parts.get("hostname") or "127.0.0.1"
    try:
        heartbeat = int(float(parts.get("heartbeat") or heartbeat_s or 0))
        port = int(parts.get("port") or (_TLS_PORT if tls else _PORT))
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{setting}: {error}") from error
    return AmqpAddress(
        # As kombu's transport: not every server listens on every address of that name.
        host="127.0.0.1" if host == "localhost" else str(host),
        port=port,
        virtual_host=str(parts.get("virtual_host") or "/"),
        username=username,
        password="" if callable(password) else str(password or "guest"),
        login_method=str(parts.get("login_method") or "PLAIN"),
        connect_timeout_s=float(connect_timeout_s or _CONNECT_TIMEOUT_S),
        heartbeat_s=min(max(heartbeat, 0), 65_535),
        connection_name=connection_name,
        tls=tls,
        credential_source=PasswordSource(username, password) if callable(password) else None,
    )
