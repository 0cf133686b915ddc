"""Redis URLs and kombu's transport options as addresses of the native side.

Forms, every part optional: ``redis://user:password@host:6379/0``, ``rediss://`` (TLS),
``redis+socket:///path/redis.sock?virtual_host=0``, ``unix:///path/redis.sock?db=0``,
``sentinel://host:26379/0;sentinel://host2:26379``, and for brokers several of the others, separated by ``;``, to try
in turn. Query parameters that redis-py knows count as options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pyworker.exceptions import ImproperlyConfigured
from pyworker.redacting import NOT_A_URL, after_credentials, without_password
from pyworker.transport.tls_settings import tls_settings
from pyworker.worker.config import RedisAddress
from pyworker.worker.redis_config import CredentialSource, SentinelSettings, TlsSettings

_PORT = 6379
_CONNECT_TIMEOUT_S = 4.0
_SOCKET_SCHEMES = frozenset({"redis+socket", "socket", "unix"})
_SENTINEL_SCHEMES = frozenset({"sentinel"})
#: Schemes that lead to a Redis server.
SCHEMES = frozenset({"redis", "rediss"}) | _SOCKET_SCHEMES | _SENTINEL_SCHEMES
#: Where Sentinel's own connections take what ``sentinel_kwargs`` does not say.
_SOCKET_OPTIONS = ("socket_timeout", "socket_connect_timeout", "socket_keepalive")
_NODE_OPTIONS = frozenset({"username", "password", "ssl", "client_name", "health_check_interval", *_SOCKET_OPTIONS})


@dataclass(frozen=True, kw_only=True)
class UrlRules:
    """What the setting that holds a URL adds to it."""

    #: The setting's name, for errors.
    setting: str
    #: kombu's transport options or redis-py's connection parameters.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Used unless the options have one.
    connect_timeout_s: float | None = None
    #: ``broker_use_ssl`` or ``redis_backend_use_ssl``, and that setting's name.
    use_ssl: Mapping[str, Any] | bool | None = None
    ssl_setting: str = "broker_use_ssl"
    #: Whether ``rediss://`` alone, without a word on certificates, is enough; kombu takes it as unverified.
    may_leave_out_ssl: bool = True
    #: Whether several servers may be named, to be tried in turn.
    may_list: bool = True
    default_port: int = _PORT
    sentinel_port: int = 26379


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case; an alias without one (``redis``) is a scheme."""
    return url.partition("://")[0].lower()


def parse_redis_url(
    url: str,
    *,
    setting: str,
    options: Mapping[str, Any] | None = None,
    connect_timeout_s: float | None = None,
    rules: UrlRules | None = None,
) -> RedisAddress:
    """Return the address that a URL or a list of URLs separated by ``;`` names.

    Args:
        url: the URL.
        setting: the setting's name, for errors.
        options: kombu's transport options or redis-py's connection parameters.
        connect_timeout_s: used unless the options have one.
        rules: all of this and more, instead.

    Raises:
        ImproperlyConfigured: the URL is malformed or names what is not supported; names the setting.
    """
    rules = rules or UrlRules(setting=setting, options=options or {}, connect_timeout_s=connect_timeout_s)
    urls = [each.strip() for each in url.split(";") if each.strip()] or [url]
    schemes = {scheme_of(each) for each in urls}
    for scheme in schemes - SCHEMES:
        shown = without_password(scheme)
        raise ImproperlyConfigured(f"{setting}: no transport for {shown!r}; known are {', '.join(sorted(SCHEMES))}")
    if schemes & _SENTINEL_SCHEMES:
        if schemes - _SENTINEL_SCHEMES:
            raise ImproperlyConfigured(f"{setting}: sentinel:// cannot be mixed with other URLs")
        return _sentinel_address(urls, rules)
    if len(urls) > 1 and not rules.may_list:
        raise ImproperlyConfigured(f"{setting}: only Sentinel takes several URLs")
    first, *others = (_address(each, rules) for each in urls)
    return replace(first, alternates=tuple(others))


def socket_url(url: str) -> str:
    """Return a URL as kombu spells it: its form of a Unix socket's is ``redis+socket://``."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in ("unix", "socket") or not separator:
        return url
    place, _, query = rest.partition("?")
    parameters = dict(parse_qsl(query))
    database = parameters.pop("db", None)
    if database is not None:
        parameters.setdefault("virtual_host", database)
    text = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
    return f"redis+socket://{place}{'?' if text else ''}{text}"


def credential_source(provider: Any, setting: str) -> CredentialSource | None:
    """Return what asks a credential provider, given as an object or by its dotted name; None for none.

    Raises:
        ImproperlyConfigured: it is no credential provider.
    """
    if not provider:
        return None
    if isinstance(provider, str):
        module, _, name = provider.replace(":", ".").rpartition(".")
        try:
            provider = getattr(import_module(module), name)()
        except (ImportError, AttributeError, ValueError) as error:
            raise ImproperlyConfigured(f"{setting}: credential_provider {provider!r}: {error}") from error
    if not callable(getattr(provider, "get_credentials", None)):
        raise ImproperlyConfigured(f"{setting}: {provider!r} is no redis.CredentialProvider")
    return CredentialSource(provider)


def _split(url: str, setting: str) -> tuple[SplitResult, int | None, dict[str, str]]:
    try:
        parts = urlsplit(url if "://" in url else f"{url}://")
        return parts, parts.port, dict(parse_qsl(parts.query))
    except ValueError:
        # Neither its text nor the URL: what it takes for a host or a port may be part of a password.
        raise ImproperlyConfigured(f"{setting}: the {scheme_of(url)} URL {NOT_A_URL}") from None


def _address(url: str, rules: UrlRules) -> RedisAddress:
    setting = rules.setting
    parts, port, query = _split(url, setting)
    chosen: dict[str, Any] = {**rules.options, **query}
    is_socket = parts.scheme in _SOCKET_SCHEMES
    database = query.get("virtual_host", query.get("db")) if is_socket else _text(parts.path) or query.get("db")
    timeout = _seconds(chosen.get("socket_connect_timeout"), setting) or rules.connect_timeout_s
    source = credential_source(chosen.get("credential_provider"), setting)
    return RedisAddress(
        host=_unquoted(parts.hostname) or chosen.get("host") or "localhost",
        port=port or int(chosen.get("port") or rules.default_port),
        unix_path=unquote(parts.netloc.rpartition("@")[2] + parts.path) if is_socket else None,
        database=_database(chosen.get("db") if database is None or database == "" else database, setting),
        username=None if source else _unquoted(parts.username) or chosen.get("username") or None,
        password=None if source else _unquoted(parts.password) or chosen.get("password") or None,
        client_name=chosen.get("client_name"),
        connect_timeout_s=_CONNECT_TIMEOUT_S if timeout is None else timeout,
        socket_timeout_s=_seconds(chosen.get("socket_timeout"), setting),
        keepalive=_flag(chosen.get("socket_keepalive")),
        health_check_interval_s=_seconds(chosen.get("health_check_interval"), setting) or 0.0,
        tls=None if is_socket else _tls(parts.scheme, query, rules),
        credential_source=source,
    )


def _tls(scheme: str, query: Mapping[str, str], rules: UrlRules) -> TlsSettings | None:
    named = {name: value for name, value in query.items() if name.startswith("ssl_")}
    given = rules.use_ssl
    if given and not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            f"{rules.ssl_setting}: must be a dictionary of ssl_cert_reqs, ssl_ca_certs and so on; "
            "True alone would leave the connection to Redis unencrypted"
        )
    if scheme == "redis" and named:
        raise ImproperlyConfigured(f"{rules.setting}: ssl_* parameters need the scheme rediss://")
    parameters = {**(given or {}), **named}
    if not parameters:
        if scheme != "rediss":
            return None
        if not rules.may_leave_out_ssl:
            raise ImproperlyConfigured(
                f"{rules.setting}: a rediss:// URL must say ssl_cert_reqs=required, optional or none"
            )
        parameters = {"ssl_cert_reqs": "none"}
    return tls_settings(parameters, setting=rules.ssl_setting if given else rules.setting)


def _sentinel_address(urls: list[str], rules: UrlRules) -> RedisAddress:
    """Database and credentials of the servers are those of the first URL."""
    setting = rules.setting
    master_name = rules.options.get("master_name")
    if not master_name:
        raise ImproperlyConfigured(f"{setting}: 'master_name' transport option must be specified.")
    places = []
    for url in urls:
        parts, port, _ = _split(url, setting)
        places.append((_unquoted(parts.hostname) or "localhost", port or rules.sentinel_port))
    settings = SentinelSettings(
        nodes=sentinel_nodes(places, rules.options.get("sentinel_kwargs"), rules),
        master_name=str(master_name),
        min_other_sentinels=int(rules.options.get("min_other_sentinels") or 0),
    )
    first = _address(urls[0], rules)
    return replace(first, host="", port=0, sentinel=settings)


def sentinel_nodes(
    places: list[tuple[str, int]], kwargs: Mapping[str, Any] | None, rules: UrlRules
) -> tuple[RedisAddress, ...]:
    """Return the addresses of Sentinel processes.

    Args:
        places: hosts and ports.
        kwargs: ``sentinel_kwargs``, redis-py's connection parameters; without them the servers' socket options hold.
        rules: where all of this comes from.

    Raises:
        ImproperlyConfigured: a parameter is not supported; names it.
    """
    if kwargs is None:
        kwargs = {name: rules.options[name] for name in _SOCKET_OPTIONS if name in rules.options}
    for name, value in kwargs.items():
        if name not in _NODE_OPTIONS and not name.startswith("ssl_") and value:
            raise ImproperlyConfigured(f"{rules.setting}: sentinel_kwargs: {name} is not supported")
    timeout = _seconds(kwargs.get("socket_connect_timeout"), rules.setting) or rules.connect_timeout_s
    tls = None
    if kwargs.get("ssl"):
        named = {name: value for name, value in kwargs.items() if name.startswith("ssl_")}
        tls = tls_settings(named, setting=f"{rules.setting}: sentinel_kwargs")
    return tuple(
        RedisAddress(
            host=host,
            port=port,
            username=kwargs.get("username") or None,
            password=kwargs.get("password") or None,
            connect_timeout_s=timeout or _CONNECT_TIMEOUT_S,
            socket_timeout_s=_seconds(kwargs.get("socket_timeout"), rules.setting),
            tls=tls,
        )
        for host, port in places
    )


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
        raise ImproperlyConfigured(
            f"{setting}: Database is int between 0 and limit - 1, not {after_credentials(str(text))}"
        )
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
