"""kombu's Redis transport on as few connections as the protocol allows: one with RESP3, two before it.

kombu opens a pool for commands and another one for what it listens to, for each channel. Where everything happens in
one thread, as on the broker line, one pool and one channel do; and since RESP3 sends what was subscribed to as messages
of their own kind, they can share the connection with the answers to commands.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from kombu.transport import redis
from kombu.utils.json import dumps

from pyworker._native import build_envelope
from pyworker.worker.liveness import ANSWER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Only kombu's own: a subclass may have reasons for the connections it opens.
_KNOWN = ("Transport", "SentinelTransport")


def keep_to_one_connection(connection: Any) -> Any:
    """Have a kombu connection, not opened yet, use as few connections as it can; for use in one thread only."""
    resolve: Callable[[], Any] = connection.get_transport_cls

    def get_transport_cls() -> Any:
        found = resolve()
        is_known = any(found is getattr(redis, name, None) for name in _KNOWN)
        return _line_transport(found) if is_known else found

    # On the instance, since a failover to another broker sets everything else anew.
    connection.get_transport_cls = get_transport_cls
    return connection


def own_channel(connection: Any) -> Any:
    """Return a channel for one user: the one that there is where more would cost connections."""
    if getattr(connection.transport, "has_one_channel", False):
        return connection.default_channel
    return connection.channel()


def leave_channel(channel: Any) -> None:
    """Close a channel of :func:`own_channel`, unless others use it."""
    if channel.connection is not None and not getattr(channel.connection, "has_one_channel", False):
        channel.close()


def was_cut(connection: Any) -> bool:
    """Whether what the connection listened on was lost, even if redis-py has connected anew since."""
    return bool(getattr(connection.transport, "was_cut", False))


def deliver_what_was_read(connection: Any) -> None:
    """Hand out what was read along with answers to commands: no socket tells of it any more.

    Raises:
        OSError: the connection is gone (``connection.connection_errors``).
    """
    deliver = getattr(connection.transport, "deliver_what_was_read", None)
    if deliver is not None:
        deliver()


def fan_out_json(
    connection: Any, body: bytes, exchange: str, routing_key: str, *, headers: dict[str, Any], delivery_mode: int
) -> bool:
    """Publish what is written as JSON to a fan-out exchange, without a detour through Python's own text of it.

    kombu's way costs more than making the events did, since it writes a list of hundreds of kilobytes four times over.

    Returns:
        Whether this connection can do it.

    Raises:
        Exception: whatever the transport raises.
    """
    if not getattr(connection.transport, "has_one_channel", False):
        return False
    channel = connection.default_channel
    message = channel.prepare_message("", 0, "application/json", "utf-8", headers, {"delivery_mode": delivery_mode})
    channel._inplace_augment_message(message, exchange, routing_key)
    written, properties = dumps(message["headers"]).encode(), dumps(message["properties"]).encode()
    envelope = build_envelope(body, written, properties, "application/json", "utf-8")
    channel.publish_envelope(exchange, routing_key, envelope)
    return True


class _OnePool:
    """A pool whose one connection everybody has at the same time, if it can tell answers from what is pushed."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._shared: Any = None

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """Return the connection; one of its own to each where they cannot share."""
        if self._shared is None:
            made = self._pool.get_connection(*arguments, **options)
            if not made.can_share():
                return made
            self._shared = made
        self._shared.keep_pushed()
        return self._shared

    def release(self, connection: Any) -> None:
        """Take it back, unless it is everybody's."""
        if connection is not self._shared:
            self._pool.release(connection)

    def disconnect(self, *arguments: Any, **options: Any) -> None:
        """Close everything."""
        self._shared = None
        self._pool.disconnect(*arguments, **options)

    @property
    def is_shared(self) -> bool:
        """Whether there is a connection for everybody."""
        return self._shared is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def _line_connection(base: type[Any]) -> type[Any]:
    """Return a kind of redis-py connection that keeps what is pushed while an answer is waited for."""

    class LineConnection(base):  # type: ignore[misc]
        def can_share(self) -> bool:
            """Whether the server pushes here, in a protocol that tells pushes from answers."""
            is_resp3 = str(getattr(self, "protocol", 2)) == "3"
            return is_resp3 and hasattr(self._parser, "set_pubsub_push_handler")

        def keep_pushed(self) -> None:
            """Begin to keep it."""
            if not hasattr(self, "pushed"):
                self.pushed: deque[Any] = deque()
                self.wants_push = False
            self._parser.set_pubsub_push_handler(self._take_push)

        def _take_push(self, response: Any) -> Any:
            if not self.wants_push:
                self.pushed.append(response)
            return response

        def can_read(self, *arguments: Any, **options: Any) -> bool:
            """Whether something was read or can be read."""
            return bool(getattr(self, "pushed", None)) or bool(super().can_read(*arguments, **options))

        def read_response(self, *arguments: Any, push_request: bool = False, **options: Any) -> Any:
            """Return the answer to a command or, if that is asked for, what was pushed."""
            if push_request and getattr(self, "pushed", None):
                return self.pushed.popleft()
            self.wants_push = push_request
            try:
                return super().read_response(*arguments, push_request=push_request, **options)
            finally:
                self.wants_push = False

    return LineConnection


@cache
def _line_transport(base: type[Any]) -> type[Any]:
    class LineChannel(base.Channel):  # type: ignore[misc, name-defined]
        def _get_pool(self, *arguments: Any, **options: Any) -> Any:
            return _OnePool(super()._get_pool(*arguments, **options))

        def _connparams(self, *_arguments: Any, **_options: Any) -> Any:
            # The asynchronous kind tells the channel when it is cut.
            parameters = super()._connparams(asynchronous=True)
            parameters["connection_class"] = _line_connection(parameters["connection_class"])
            if parameters.get("socket_timeout") is None:
                # A server that is gone without a word would hold up everybody as long as the system goes on sending.
                parameters["socket_timeout"] = ANSWER_S
            return parameters

        @property
        def pool(self) -> Any:
            return self.async_pool

        @contextmanager
        def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
            """Yield one client for all commands: making one costs an idle node more than its heartbeat does."""
            yield client or self._command_client

        @cached_property
        def _command_client(self) -> Any:
            return self._create_client()

        @cached_property
        def subclient(self) -> Any:
            subscription = self._create_client(asynchronous=True).pubsub()
            check_alone = subscription.check_health

            def check_health() -> None:
                if self.async_pool.is_shared:
                    # redis-py's way of asking would leave an answer behind for the next command.
                    subscription.connection.check_health()
                else:
                    check_alone()

            subscription.check_health = check_health
            return subscription

        def basic_consume(self, *arguments: Any, **options: Any) -> Any:
            """Have kombu subscribe again: it looks at its list of subscriptions once only."""
            result = super().basic_consume(*arguments, **options)
            self._in_listen = None
            return result

        def publish_envelope(self, exchange: str, routing_key: str, envelope: bytes) -> None:
            """Give a message that is written already to all who listen to a fan-out exchange."""
            # kombu before 5.7 knows one topic only.
            find_topics = getattr(self, "_get_publish_topics", lambda *names: [self._get_publish_topic(*names)])
            with self.conn_or_acquire() as client:
                for topic in find_topics(exchange, routing_key):
                    client.publish(topic, envelope)

        def _on_connection_disconnect(self, connection: Any) -> None:
            subscription = self.__dict__.get("subclient")
            if self.connection is not None and subscription is not None and subscription.connection is connection:
                self.connection.was_cut = True
            super()._on_connection_disconnect(connection)

    class LineTransport(base):  # type: ignore[misc]
        Channel = LineChannel
        has_one_channel = True
        was_cut = False

        def deliver_what_was_read(self) -> None:
            """Hand out what was pushed while answers were read."""
            for channel in list(self.channels):
                subscription = channel.__dict__.get("subclient")
                connection = subscription.connection if subscription is not None else None
                if connection is not None and connection._sock is not None and connection.can_read():
                    channel._receive()

    return LineTransport
