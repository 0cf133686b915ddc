"""Sends events."""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, ClassVar

from kombu import Producer

from pyworker.current import app_or_default
from pyworker.events.event import Event, anonymous_node_name, get_exchange, group_from, utc_offset_h

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from pyworker.app.base import Celery


class EventDispatcher:
    """Sends events on a connection. Use it in a ``with`` block, or ``close`` it.

    Args:
        connection: a ``kombu.Connection``.
        hostname: who sends; ``gen<pid>@<host>`` if not given.
        enabled: whether to send at all; :meth:`enable` and :meth:`disable` change it.
        channel: a channel to use instead of the connection's own.
        buffer_while_offline: keep what cannot be sent; :meth:`flush` sends it. Without it sending raises.
        app: the application, the current one if not given.
        serializer: ``event_serializer`` if not given.
        groups: send only events of these groups; all if empty.
        delivery_mode: 1, transient, or 2, persistent.
        buffer_group: groups whose events are collected into lists.
        buffer_limit: how many make a list.
        on_send_buffered: called when an event was put into a list that is not full.
    """

    #: Transports that have no fan-out.
    DISABLED_TRANSPORTS: ClassVar[set[str]] = {"sql"}

    #: The application of classes that are bound to one (``app.events.Dispatcher``).
    app: Any = None

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        enabled: bool = True,
        channel: Any = None,
        buffer_while_offline: bool = True,
        app: Celery | None = None,
        serializer: str | None = None,
        groups: Iterable[str] | None = None,
        delivery_mode: int = 1,
        buffer_group: Iterable[str] | None = None,
        buffer_limit: int = 24,
        on_send_buffered: Callable[[], object] | None = None,
    ) -> None:
        self.app = app_or_default(app or self.app)
        self.connection = connection or (channel.connection.client if channel is not None else None)
        self.channel = channel
        self.hostname = hostname or anonymous_node_name()
        self.buffer_while_offline = buffer_while_offline
        self.buffer_group = frozenset(buffer_group or ())
        self.buffer_limit = buffer_limit
        self.on_send_buffered = on_send_buffered
        self.serializer = serializer or self.app.conf.event_serializer
        self.groups = set(groups or ())
        self.delivery_mode = delivery_mode
        self.clock = self.app.clock
        self.headers = {"hostname": self.hostname}
        self.pid = os.getpid()
        self.mutex = threading.Lock()
        #: Called after :meth:`enable` and :meth:`disable`.
        self.on_enabled: set[Callable[[], object]] = set()
        self.on_disabled: set[Callable[[], object]] = set()
        self.producer: Any = None
        self._lists: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._unsent: deque[tuple[Any, str]] = deque()
        self._is_closed = False
        transport = self.connection or self.app.connection_for_write()
        self.exchange = get_exchange(transport, name=self.app.conf.event_exchange)
        self.enabled = enabled and transport.transport.driver_type not in self.DISABLED_TRANSPORTS
        if self.enabled:
            self.enable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # -- on and off

    def enable(self) -> None:
        """Send from now on."""
        with self.mutex:
            self.producer = Producer(
                self.channel or self.connection, exchange=self.exchange, serializer=self.serializer, auto_declare=False
            )
            self._is_closed = False
            self.enabled = True
        for callback in self.on_enabled:
            callback()

    def disable(self) -> None:
        """Send nothing from now on."""
        if self.enabled:
            self.enabled = False
            self.close()
            for callback in self.on_disabled:
                callback()

    def close(self) -> None:
        """Send nothing more; what was collected is kept."""
        with self.mutex:
            self._is_closed = True
            self.producer = None

    @property
    def publisher(self) -> Any:
        """The producer, by its older name."""
        return self.producer

    @publisher.setter
    def publisher(self, value: Any) -> None:
        self.producer = value

    # -- sending

    def send(
        self,
        type: str,
        blind: bool = False,
        utcoffset: Callable[[], float] = utc_offset_h,
        retry: bool = False,
        retry_policy: Any = None,
        Event: Callable[..., dict[str, Any]] = Event,
        **fields: Any,
    ) -> Any:
        """Send an event, if events of its group are wanted.

        Args:
            type: its type.
            blind: leave the logical clock alone and send none.
            utcoffset: tells the hours that local time is behind UTC.
            retry: try again when the connection is lost.
            retry_policy: how, as ``task_publish_retry_policy``.
            Event: makes the event.
            fields: what it carries.

        Raises:
            kombu.exceptions.OperationalError: it cannot be sent, and is not to be buffered.
        """
        group = group_from(type)
        if not self.enabled or (self.groups and group not in self.groups):
            return None
        is_listed = group in self.buffer_group
        event = self._made(type, fields, blind=blind and not is_listed, make=Event, offset_h=utcoffset())
        if is_listed:
            self._collect(group, event)
            return None
        with self.mutex:
            if self._is_closed:
                return None
            return self._publish(event, self.producer, type.replace("-", "."), retry, retry_policy)

    def publish(
        self,
        type: str,
        fields: Any,
        producer: Any,
        blind: bool = False,
        Event: Callable[..., dict[str, Any]] = Event,
        retry: bool = False,
        retry_policy: Any = None,
        **_options: Any,
    ) -> Any:
        """Send an event through a producer of the caller's, whether this dispatcher is enabled or not.

        Args:
            type: its type.
            fields: a mapping of what it carries.
            producer: a ``kombu.Producer``.
            blind, Event, retry, retry_policy: as of :meth:`send`.
        """
        event = self._made(type, fields, blind=blind, make=Event, offset_h=utc_offset_h())
        with self.mutex:
            return self._publish(event, producer, type.replace("-", "."), retry, retry_policy)

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what was kept back.

        Args:
            errors: what could not be sent.
            groups: the lists.
        """
        with self.mutex:
            if self._is_closed:
                return
            if errors:
                waiting, self._unsent = self._unsent, deque()
                for event, routing_key in waiting:
                    self._publish(event, self.producer, routing_key)
            if groups:
                for group, events in self._lists.items():
                    # Others append meanwhile: only what is sent here is taken away.
                    count = len(events)
                    if count:
                        self._publish(events[:count], self.producer, f"{group}.multi")
                        del events[:count]

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Take over what another dispatcher could not send."""
        self._unsent.extend(other._unsent)

    def _made(
        self, type: str, fields: Any, *, blind: bool, make: Callable[..., dict[str, Any]], offset_h: float
    ) -> dict[str, Any]:
        clock = None if blind else self.clock.forward()
        return make(type, hostname=self.hostname, utcoffset=offset_h, pid=self.pid, clock=clock, **fields)

    def _collect(self, group: str, event: dict[str, Any]) -> None:
        waiting = self._lists[group]
        waiting.append(event)
        if len(waiting) >= self.buffer_limit:
            self.flush()
        elif self.on_send_buffered is not None:
            self.on_send_buffered()

    def _publish(
        self, event: Any, producer: Any, routing_key: str, retry: bool = False, retry_policy: Any = None
    ) -> Any:
        if producer is None:
            return None
        try:
            return producer.publish(
                event, routing_key=routing_key, exchange=self.exchange.name, retry=retry, retry_policy=retry_policy,
                declare=[self.exchange], serializer=self.serializer, headers=self.headers,
                delivery_mode=self.delivery_mode,
            )  # fmt: skip
        except Exception:
            # Whatever a transport raises: an event is not worth the sender's task.
            if not self.buffer_while_offline:
                raise
            self._unsent.append((event, routing_key))
            return None
