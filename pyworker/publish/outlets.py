"""The ways of messages out of here, chosen by the scheme of ``broker_url``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.native_paths import path_of_settings

if TYPE_CHECKING:
    from pyworker.conf import Settings
    from pyworker.publish.messages import Message
    from pyworker.routing import Destination

#: An encoded message: queue, priority, envelope.
Outgoing = tuple[str, int, bytes]

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

    def messages(
        self,
        ids: list[str],
        arguments: list[tuple[Any, ...]],
        *,
        group_id: str | None = None,
        group_index: int | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        chord: Any = None,
    ) -> list[bytes | None]:
        """Return whole messages of calls with positional arguments alone; None where they are not plain."""


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
    ) -> Template | None:
        """Make the constant parts of a task's messages; ``None`` where kombu writes them."""

    def wrap(self, message: Message, destination: Destination) -> Outgoing | None:
        """Encode any message; a compression is added to its headers. ``None`` where kombu does it."""

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
    if not path_of_settings(conf, url).is_native:
        return cast("Outlet", import_module("pyworker.publish.kombu").KombuOutlet())
    scheme = str(first).partition("://")[0].lower()
    if scheme in ("amqp", "pyamqp", "librabbitmq", "amqps"):
        return cast("Outlet", import_module("pyworker.publish.amqp").AmqpOutlet(conf, url))
    if scheme in _SQLITE_SCHEMES:
        return cast("Outlet", import_module("pyworker.publish.sqlite").SqliteOutlet(conf, url))
    return cast("Outlet", import_module("pyworker.publish.redis").RedisOutlet(conf, url))
