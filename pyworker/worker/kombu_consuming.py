"""What is open on one kombu connection: a consumer for each queue, and the messages that are not settled yet.

Used by one thread, which is the connection's owner.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import suppress
from itertools import count
from queue import Empty
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kombu.transport.virtual import Channel as VirtualChannel

from pyworker.worker.kombu_messages import bound_messages
from pyworker.worker.kombu_parcels import parcel_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyworker.worker.kombu_config import KombuBrokerConfig

logger = logging.getLogger("celery.worker.request")

#: Messages that came ahead of the demand go back when nobody has wanted them for so long.
_HOARD_S = 0.5
#: AMQP's largest prefetch count; more is no limit.
_PREFETCH_MAX = 65_535
_REFUSALS = {"reject": "reject", "requeue": "requeue", "release": "requeue"}


@runtime_checkable
class KombuSource(Protocol):
    """What the thread needs of an application."""

    def kombu_connection(self) -> Any:
        """A new connection for consuming, not opened yet."""

    def kombu_consumer(self, channel: Any, queue: str) -> Any:
        """A ``kombu.Consumer`` of one queue, which is declared by that; it does not consume yet."""

    def kombu_connected(self, connection: Any) -> None:
        """The connection is open; called before anything is consumed."""


class Consuming:
    """Consumers, deliveries and their ends on one connection.

    Args:
        source: the application.
        connection: an open ``kombu.Connection``.
        config: the broker's configuration.
        queues: active queues by index; kept up to date here.
        tags: numbers that were never used before.
    """

    def __init__(
        self, source: KombuSource, connection: Any, config: KombuBrokerConfig, queues: dict[int, str], tags: count[int]
    ) -> None:
        self._source = source
        self._connection = connection
        self._link = config.link
        self._config = config
        self._queues = queues
        self._tags = tags
        self._connection_errors: tuple[type[BaseException], ...] = connection.connection_errors
        self._messages: dict[int, Any] = {}
        #: Messages that kombu gave and the engine has not taken, with the index of their queue.
        self._hoard: deque[tuple[int, Any]] = deque()
        self._unwanted_since: float | None = None
        self._consumers: dict[int, Any] = {}
        self._demand = 0
        self._confirmed = 0
        self._prefetch: int | None = None
        self._is_paused = True
        self.is_stopping = False
        source.kombu_connected(connection)
        self._channel = connection.channel()
        bound_messages(self._channel)
        for index, name in queues.items():
            self._consumers[index] = self._consumer(index, name)
        self._has_gate = isinstance(self._channel, VirtualChannel)
        self._is_fixed = not self._has_gate and any(map(_is_quorum, self._consumers.values()))
        if self._has_gate:
            self._channel.qos.can_consume = lambda: self.room > 0
            self._channel.qos.can_consume_max_estimate = lambda: max(self.room, 0)

    def _consumer(self, index: int, name: str) -> Any:
        consumer = self._source.kombu_consumer(self._channel, name)
        no_ack = any(queue.no_ack for queue in consumer.queues)

        def on_message(message: Any) -> None:
            if no_ack:
                # Nobody waits for its end.
                message._state = "ACK"
            self._hoard.append((index, message))

        consumer.on_message = on_message
        # What cannot be read is judged by the engine and by the main process, as on every other broker.
        consumer.on_decode_error = lambda message, _error: on_message(message)
        return consumer

    # -- what the loops ask

    @property
    def room(self) -> int:
        """How many more messages are wanted."""
        return self._demand - len(self._hoard)

    @property
    def has_news(self) -> bool:
        """Whether the engine should be told something now."""
        return bool(self._confirmed or (self._hoard and self._demand))

    def exchange(self) -> None:
        """Give the engine what it wants and do what it asks for, until there is nothing more to say.

        Raises:
            Exception: one of the connection's errors; then everything that came over it is void.
        """
        self._exchange_once()
        while self.has_news and not self.is_stopping:
            self._exchange_once()

    def _exchange_once(self) -> None:
        parcels = []
        for _ in range(min(self._demand, len(self._hoard))):
            index, message = self._hoard.popleft()
            tag = next(self._tags)
            parcels.append(parcel_of(tag, index, message))
            self._messages[tag] = message
        confirmed, self._confirmed = self._confirmed, 0
        self._demand, settlements, changes, self.is_stopping = self._link.exchange(parcels, confirmed)
        for tag, how in self._in_order(settlements):
            self._settle(self._messages.pop(tag, None), how)
            self._confirmed += 1
        for index, name, is_active in changes:
            self._change_queue(index, name, is_active)
        self._follow_demand()

    def _in_order(self, settlements: list[tuple[int, str]]) -> Iterable[tuple[int, str]]:
        """The engine returns the youngest first; where returned messages go to the end, the oldest must be first."""
        if self._has_gate and type(self._channel)._restore_at_beginning is VirtualChannel._restore_at_beginning:
            returned = [item for item in settlements if item[1] == "release"]
            return [item for item in settlements if item[1] != "release"] + returned[::-1]
        return settlements

    def _settle(self, message: Any, how: str) -> None:
        if message is None or message.acknowledged:
            return
        try:
            if how == "ack":
                message.ack()
            else:
                getattr(message, _REFUSALS[how])()
        except self._connection_errors:
            raise
        except Exception as error:
            verb = "ack" if how == "ack" else "reject"
            logger.critical("Couldn't %s %r, reason:%r", verb, message.delivery_tag, error, exc_info=True)

    # -- flow

    def _follow_demand(self) -> None:
        if self._demand > 0 and self._is_paused and not self.is_stopping:
            self._is_paused = False
            self._set_prefetch()
            for index in self._queues:
                self._consumers[index].consume()
        elif not self._is_paused:
            self._set_prefetch()

    def _set_prefetch(self) -> None:
        """Tell a server that sends by itself how much it may send; virtual transports ask the gate."""
        if self._has_gate:
            return
        if self._is_fixed:
            wanted = self._config.prefetch_count
        else:
            # Held here and wanted on top: Celery's count, plus what waits for its time.
            wanted = max(len(self._messages) + self._demand, 1)
            wanted = 0 if wanted > _PREFETCH_MAX else wanted
        if wanted != self._prefetch:
            self._prefetch = wanted
            self._channel.basic_qos(0, wanted, not self._is_fixed)

    def return_unwanted(self) -> None:
        """Give back what nobody has wanted for a while, and take nothing until something is wanted again."""
        if not self._hoard or self._demand > 0:
            self._unwanted_since = None
            return
        now = time.monotonic()
        if self._unwanted_since is None:
            self._unwanted_since = now
        elif now - self._unwanted_since >= _HOARD_S:
            self._unwanted_since = None
            self._pause()
            self._return_hoard()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            for index in self._queues:
                self._consumers[index].cancel()

    def _return_hoard(self) -> None:
        while self._hoard:
            _index, message = self._hoard.pop()
            self._settle(message, "requeue")

    def _change_queue(self, index: int, name: str, is_active: bool) -> None:
        if is_active == (index in self._queues):
            return
        if not is_active:
            del self._queues[index]
            if not self._is_paused:
                self._consumers[index].cancel()
            return
        self._queues[index] = name
        if index not in self._consumers:
            self._consumers[index] = self._consumer(index, name)
        if not self._is_paused:
            self._consumers[index].consume()

    def close(self) -> None:
        """End in order: nothing more is taken, and what is held here goes back."""
        self._finish_read()
        self._pause()
        self._return_hoard()

    def _finish_read(self) -> None:
        """Take what a read in progress brings.

        On Redis one waits at the server, and gets what is given back here. kombu asks for its answer when it closes the
        channel, and by then there is no consumer to take the message, which is in no list any more.
        """
        if getattr(self._channel, "_in_poll", None):
            with suppress(Empty):
                self._channel._brpop_read()


def _is_quorum(consumer: Any) -> bool:
    return any((queue.queue_arguments or {}).get("x-queue-type") == "quorum" for queue in consumer.queues)
