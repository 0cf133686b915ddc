"""A kombu transport on the same SQLite file: stock producers and stock workers, remote control, event monitors.

``sqlite://`` leads here once :mod:`pyworker` is imported; kombu finds transports in a table, not by entry points.
Messages are those of kombu's virtual transports, so native workers read what stock producers write and the other way
round. Waiting is done on the file's bell instead of by sleeping and looking.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import deque
from functools import cached_property
from queue import Empty
from typing import TYPE_CHECKING, Any

from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.json import dumps, loads

from pyworker._native import NativeError, SqliteConsumer, SqliteFile
from pyworker.exceptions import OperationalError
from pyworker.transport.sqlite_file import open_file, priority_steps
from pyworker.transport.sqlite_url import parse_sqlite_url
from pyworker.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

#: Who waits for broadcasts waits for this name.
_FANOUT = b"\0fanout"
#: How often a channel looks although nobody rang.
_LOOK_S = 1.0
#: A channel that is silent for so long is given up, unless its process is gone before.
_VISIBILITY_TIMEOUT_S = 3600.0
_BROADCASTS_AT_ONCE = 100


class QoS(virtual.QoS):  # type: ignore[misc]
    """Deliveries of one channel; they end in the file, one commit each."""

    channel: Channel

    def ack(self, delivery_tag: str) -> None:
        """Forget a message."""
        self.channel.settle([delivery_tag], "ack")
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop a message or hand it back to where it was."""
        self.channel.settle([delivery_tag], "requeue" if requeue else "ack")
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """Hand back everything that was not acknowledged; it keeps its place."""
        self._flush()
        tags = list(self._delivered)
        self._delivered.clear()
        self.channel.settle(tags, "release")
        return []


class Channel(virtual.Channel):  # type: ignore[misc]
    """One channel. Its process signs on in the file like a worker, so that a dead one's messages return at once."""

    QoS = QoS
    supports_fanout = True
    from_transport_options = (*virtual.Channel.from_transport_options, "visibility_timeout")
    visibility_timeout = _VISIBILITY_TIMEOUT_S

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.file = connection.file
        #: Numbers of held messages by delivery tag.
        self._held: dict[str, int] = {}
        #: Queues bound to fan-out exchanges: the exchange, and from which broadcast on.
        self._subscriptions: dict[str, tuple[str, int]] = {}
        self._broadcasts: deque[tuple[str, Any]] = deque()
        #: Queues whose consumers acknowledge nothing: what comes from them leaves the file when it is handed out.
        self._forgetting: set[str] = set()
        self._last_broadcast = 0
        self._turn = 0
        owner = f"kombu.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._consumer = SqliteConsumer(self.file, owner, float(self.visibility_timeout))

    # -- messages

    def _put(self, queue: str, message: dict[str, Any], **_kwargs: Any) -> None:
        self.file.publish(queue, self._get_message_priority(message), dumps(message).encode())

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        if queue in self._subscriptions:
            raise Empty
        return self._fetch([(queue, False)])[1]

    def _fetch(self, queues: list[tuple[str, bool]]) -> tuple[str, Any]:
        """Take the next message of these queues; the flag says that nobody will acknowledge it."""
        for number, position, deliveries, raw in self._consumer.fetch(queues, 1):
            message = loads(raw.decode())
            properties = message["properties"]
            # A message that was routed to two queues has one tag in both.
            tag = properties["delivery_tag"] = f"{number}"
            if deliveries:
                message["redelivered"] = True
            queue, forgets = queues[position]
            if not forgets:
                self._held[tag] = number
            return queue, message
        raise Empty

    def _poll(self, cycle: Any, callback: Callable[[Any, str], Any], timeout: float | None = None) -> Any:
        if self._subscriptions:
            self._read_broadcasts()
            if self._broadcasts:
                queue, message = self._broadcasts.popleft()
                return callback(message, queue)
        queues = [
            (queue, queue in self._forgetting) for queue in self._active_queues if queue not in self._subscriptions
        ]
        # The queues take turns in being the first. Without any, this is a sign of life.
        self._turn = (self._turn + 1) % max(len(queues), 1)
        queue, message = self._fetch(queues[self._turn :] + queues[: self._turn])
        return callback(message, queue)

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **kwargs: Any
    ) -> None:
        """Consume from a queue, and say so in the file: it does not expire meanwhile."""
        exchange, _first = self._subscriptions.get(queue, (None, 0))
        self._consumer.consume(queue, exchange)
        (self._forgetting.add if no_ack else self._forgetting.discard)(queue)
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)

    def basic_cancel(self, consumer_tag: str) -> None:
        """End a consumer."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is not None and queue not in self._active_queues and not self.closed:
            self._forgetting.discard(queue)
            self._consumer.cancel(queue)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return the next message of a queue, if there is one."""
        message = super().basic_get(queue, no_ack, **kwargs)
        if no_ack and message is not None:
            self.settle([message.delivery_tag], "ack")
        return message

    def settle(self, tags: list[str], how: str) -> None:
        """End deliveries of this channel."""
        numbers = [number for tag in tags if (number := self._held.pop(tag, None)) is not None]
        if numbers:
            self._consumer.settle(numbers, how)

    def _size(self, queue: str) -> int:
        return self.file.size(queue)

    def _purge(self, queue: str) -> int:
        return self.file.purge(queue)

    # -- queues and exchanges

    def prepare_queue_arguments(self, arguments: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return a queue's arguments as RabbitMQ has them; of these ``x-expires`` means something here."""
        return dict(to_rabbitmq_queue_arguments(arguments, **kwargs))

    def _new_queue(self, queue: str, arguments: dict[str, Any] | None = None, **_kwargs: Any) -> None:
        expires_ms = (arguments or {}).get("x-expires")
        self.file.declare_queue(queue, expires_ms / 1000 if expires_ms else None)

    def _has_queue(self, queue: str, **_kwargs: Any) -> bool:
        return any(name == queue for name, *_ in self.file.queues())

    def _delete(self, queue: str, *_args: Any, **_kwargs: Any) -> None:
        self._subscriptions.pop(queue, None)
        self.file.delete_queue(queue)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        if self.typeof(exchange).type == "fanout":
            last = self.file.last_broadcast()
            if not self._subscriptions:
                self._last_broadcast = last
            self._subscriptions[queue] = (exchange, last)
        else:
            self.file.bind(exchange, (routing_key or "", pattern or "", queue or ""))

    def queue_bind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        """Bind a queue, also where kombu knows of it: a queue that nobody used has lost its bindings in the file."""
        exchange = exchange or "amq.direct"
        is_known = self.state.has_binding(queue, exchange, routing_key)
        super().queue_bind(queue, exchange, routing_key, arguments, **kwargs)
        if is_known and queue not in self._subscriptions:
            self._queue_bind(exchange, *self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments))

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        """Undo a binding."""
        super().queue_unbind(queue, exchange, routing_key, arguments, **kwargs)
        if self._subscriptions.pop(queue, None) is None and exchange:
            key, pattern, _queue = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
            self.file.unbind(exchange, (key or "", pattern or "", queue))

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """Return the bindings of an exchange, those of other processes too."""
        return self.file.bindings(exchange)

    # -- broadcasts

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        """Return an exchange's type; a fan-out exchange that was declared elsewhere is known by its listeners."""
        if exchange not in self.state.exchanges and self.fanout_listeners(exchange):
            default = "fanout"
        return super().typeof(exchange, default)

    def fanout_listeners(self, exchange: str) -> list[str]:
        """Return the queues by which living processes listen to a fan-out exchange."""
        return self.file.listeners(exchange)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **_kwargs: Any) -> None:
        self.file.broadcast(exchange, dumps(message).encode())

    def _read_broadcasts(self) -> None:
        for number, exchange, raw in self.file.broadcasts_after(self._last_broadcast, _BROADCASTS_AT_ONCE):
            self._last_broadcast = number
            for queue, (subscribed, first) in self._subscriptions.items():
                if subscribed == exchange and number > first and queue in self._active_queues:
                    self._broadcasts.append((queue, loads(raw.decode())))

    # -- life

    def names(self) -> list[bytes]:
        """What this channel waits for."""
        return [_FANOUT if queue in self._subscriptions else queue.encode() for queue in self._active_queues]

    def close(self) -> None:
        """Hand back what is held, and sign off."""
        if not self.closed:
            super().close()
            self._consumer.close()


class _Cycle(virtual.Transport.Cycle):  # type: ignore[misc]
    """The channels in turn; shows a descriptor to those who want to sleep on one."""

    bell: _Bell | None = None
    transport: Transport | None = None

    @property
    def fds(self) -> dict[int, Any]:
        """Return the descriptor that becomes readable when there may be something to drain."""
        if self.transport is None:
            return {}
        if self.bell is None:
            self.bell = _Bell(self.transport)
        return {self.bell.descriptor: self.transport}

    def close(self) -> None:
        """Stop the thread behind the descriptor."""
        bell, self.bell = self.bell, None
        if bell is not None:
            bell.stop()


class _Bell:
    """A thread that waits on the file's bell and makes a pipe readable."""

    def __init__(self, transport: Transport) -> None:
        self._file = transport.file
        self._names = transport.names
        self.descriptor, self._writer = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writer, False)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="pyworker-bell", daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Make the descriptor unreadable until the bell rings again."""
        try:
            while os.read(self.descriptor, 4096):
                pass
        except BlockingIOError:
            pass

    def stop(self) -> None:
        """End the thread and close the pipe."""
        self._stopping = True
        self._file.ring("queues", self._names())
        self._thread.join(2 * _LOOK_S)
        os.close(self._writer)
        os.close(self.descriptor)

    def _run(self) -> None:
        seen = self._file.seen("queues")
        while not self._stopping:
            if self._file.wait("queues", seen, self._names(), 30.0) and not self._stopping:
                seen = self._file.seen("queues")
                try:
                    os.write(self._writer, b"x")
                except BlockingIOError:
                    pass  # It is readable already.


class Transport(virtual.Transport):  # type: ignore[misc]
    """Connections to one file; ``sqlite:///relative.db`` or ``sqlite:////absolute/path.db``."""

    Channel = Channel
    Cycle = _Cycle
    can_parse_url = True
    driver_type = "sqlite"
    driver_name = "pyworker"
    connection_errors = (*virtual.Transport.connection_errors, NativeError, OperationalError)
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        options = dict(client.transport_options or {})
        self._address = parse_sqlite_url(_url(client), setting="broker_url", options=options)
        self._priority_steps = priority_steps(options)
        self.cycle.transport = self

    @cached_property
    def file(self) -> SqliteFile:
        """The file, opened with the connection and not before: a transport is also asked for what it can do."""
        return open_file(self._address, setting="broker_url", priority_steps=self._priority_steps)

    def names(self) -> list[bytes]:
        """What the channels of this connection wait for."""
        return [name for channel in list(self.channels) for name in channel.names()] or [_FANOUT]

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message; sleeps on the file's bell until there is one.

        Raises:
            TimeoutError: nothing came in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.cycle.bell is not None:
            self.cycle.bell.clear()
        while True:
            seen = self.file.seen("queues")
            try:
                self.cycle.get(self._deliver, timeout=timeout)
                return
            except Empty:
                left_s = _LOOK_S if deadline is None else deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError from None
                self.file.wait("queues", seen, self.names(), min(left_s, _LOOK_S))

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Return the URL; a file has no password."""
        return uri if "://" in uri else f"sqlite://{uri}"

    def driver_version(self) -> str:
        """Return pyworker's version."""
        return __version__


def _url(client: Any) -> str:
    url = str(client.hostname or "")
    return url if "://" in url else f"sqlite:///{client.virtual_host or ''}"
