"""The ways of messages out of here, chosen by the scheme of ``broker_url``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from pyworker.exceptions import ImproperlyConfigured
from pyworker.redacting import without_password

if TYPE_CHECKING:
    from pyworker.conf import Settings
    from pyworker.publish.messages import Message
    from pyworker.routing import Destination

#: An encoded message: queue, priority, envelope.
Outgoing = tuple[str, int, bytes]

#: Modules by scheme; loaded when first used.
_MODULES = dict.fromkeys(("redis", "redis+socket", "socket", "unix", "rediss", "sentinel"), "pyworker.publish.redis")
_SQLITE_SCHEMES = frozenset({"sqlite", "memory"})


class Template(Protocol):
    """The constant parts of one task's messages."""

    @property
    def queue(self) -> str:
        """Where they go."""

    @property
    def priority(self) -> int:
        """Their priority."""

    def is_current(self) -> bool:
        """Whether this is still the process that made the template."""

    def envelope(
        self,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        group_id: str | None = None,
        group_index: int | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
    ) -> bytes:
        """Return a whole message."""


class Outlet(Protocol):
    """Publishes to one broker; safe across threads and forks."""

    def template(
        self,
        name: str,
        destination: Destination,
        *,
        priority: int,
        says_priority: bool,
        time_limits: tuple[Any, Any],
        ignore_result: bool | None,
        repr_levels: int,
    ) -> Template:
        """Make the constant parts of a task's messages."""

    def wrap(self, message: Message, destination: Destination) -> Outgoing:
        """Encode any message; a compression is added to its headers."""

    def push(self, outgoing: Outgoing, retry: bool | None = None, policy: Mapping[str, Any] | None = None) -> None:
        """Publish one message.

        Raises:
            OperationalError: the broker cannot be reached or refuses.
        """

    def push_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish many messages.

        Raises:
            OperationalError: the broker cannot be reached or refuses.
        """

    def close(self) -> None:
        """Close idle connections."""


def make_outlet(conf: Settings) -> Outlet:
    """Return the way to the broker that the settings name.

    Raises:
        ImproperlyConfigured: ``broker_url`` is missing or names none that is supported.
    """
    url = conf.broker_write_url or conf.broker_url
    if not url:
        raise ImproperlyConfigured("broker_url is not set")
    # A list of alternate URLs is of one kind; its transport looks closer.
    first = url if isinstance(url, str) else next(iter(url), "")
    scheme = str(first).partition("://")[0].lower()
    if scheme in ("amqp", "pyamqp", "librabbitmq", "amqps"):
        return cast("Outlet", import_module("pyworker.publish.amqp").AmqpOutlet(conf, url))
    if scheme in _SQLITE_SCHEMES:
        return cast("Outlet", import_module("pyworker.publish.sqlite").SqliteOutlet(conf, url))
    if scheme not in _MODULES:
        raise ImproperlyConfigured(
            f"broker_url: no transport for {without_password(scheme)!r}; redis://, amqp:// and sqlite:// are known"
        )
    return cast("Outlet", import_module(_MODULES[scheme]).RedisOutlet(conf, url))
