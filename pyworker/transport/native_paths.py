"""Which brokers are spoken to natively, and why another one goes through kombu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.conf import Settings

#: Schemes of ``broker_url`` that an app of ours speaks natively, and what they lead to.
NATIVE_SCHEMES: Mapping[str, str] = {
    **dict.fromkeys(("amqp", "pyamqp", "librabbitmq", "amqps"), "RabbitMQ"),
    **dict.fromkeys(("redis", "redis+socket", "socket", "unix", "rediss", "sentinel"), "Redis"),
    **dict.fromkeys(("sqlite", "memory"), "SQLite"),
}
_PLAIN = (str, bytes, int, float, bool, type(None))


class NotNative(ImproperlyConfigured):
    """The broker can be reached through kombu only; the text says why."""


class BrokerPath(NamedTuple):
    """How a worker reaches its broker.

    Attributes:
        transport: kombu's name for the transport.
        is_native: whether the engine speaks to the broker itself.
        reason: why, for people.
    """

    transport: str
    is_native: bool
    reason: str


@runtime_checkable
class KnowsBrokerPath(Protocol):
    """An application that can say how its broker is reached."""

    def broker_path(self) -> BrokerPath:
        """The way; connects to nothing.

        Raises:
            ImproperlyConfigured: there is none; says why.
        """


def require_plain(setting: str, value: Any) -> None:
    """Refuse what only kombu's own client can use.

    Args:
        setting: the setting's name, for the text.
        value: its value.

    Raises:
        NotNative: the value is an object (an SSL context, a function), or holds one.
    """
    if isinstance(value, Mapping):
        for key, member in value.items():
            require_plain(f"{setting}[{key!r}]", member)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for member in value:
            require_plain(setting, member)
    elif not isinstance(value, _PLAIN):
        kind = type(value)
        raise NotNative(f"{setting} is no plain data but a {kind.__module__}.{kind.__qualname__}")


def path_of_settings(conf: Settings, url: Any) -> BrokerPath:
    """Return how a broker of an app of ours is reached.

    Args:
        conf: the app's settings.
        url: the broker's URL or URLs.

    Raises:
        ImproperlyConfigured: there is no URL.
    """
    if not url:
        raise ImproperlyConfigured("broker_url is not set")
    first = str(url if isinstance(url, str) else next(iter(url), ""))
    scheme = first.partition("://")[0].lower()
    transport = conf.broker_transport
    if transport is not None:
        name = transport if isinstance(transport, str) else f"{transport.__module__}.{transport.__qualname__}"
        if name.lower() not in NATIVE_SCHEMES:
            return BrokerPath(name, False, "broker_transport names a transport that has no native counterpart")
    if scheme not in NATIVE_SCHEMES:
        return BrokerPath(scheme, False, f"the transport {scheme!r} has no native counterpart")
    try:
        require_plain("broker_use_ssl", conf.broker_use_ssl)
    except NotNative as error:
        return BrokerPath(scheme, False, str(error))
    return BrokerPath(scheme, True, NATIVE_SCHEMES[scheme])


def loadable(connect: Callable[[], Any]) -> Any:
    """Make a connection whose transport kombu knows and can load; nothing is connected.

    Args:
        connect: makes a ``kombu.Connection``.

    Raises:
        ImproperlyConfigured: names the transport, or the library that is missing.
    """
    try:
        connection = connect()
        return connection if connection.transport is not None else None
    except KeyError as error:
        raise ImproperlyConfigured(f"broker_url: kombu says: {error.args[0]}") from None
    except ImportError as error:
        raise ImproperlyConfigured(f"broker_url: the transport cannot be loaded: {error}") from error
