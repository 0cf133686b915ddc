"""The native way of messages into RabbitMQ: each is confirmed by the server or the call fails."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyworker._native import AmqpPublisher, NativeError, build_amqp_message
from pyworker.backends import RPC_SCHEME
from pyworker.current import joins_block
from pyworker.exceptions import OperationalError
from pyworker.publish.encoding import compressed, encode_body, encode_json
from pyworker.publish.messages import Message
from pyworker.publish.outlets import Outgoing
from pyworker.publish.retry import PublishRetry
from pyworker.publish.templates import Template
from pyworker.routing import Destination, Router
from pyworker.transport.amqp_queues import kombu_queue, reply_queue
from pyworker.transport.amqp_settings import amqp_addresses
from pyworker.transport.amqp_topology import declarations_of

if TYPE_CHECKING:
    from pyworker.conf import Settings

#: How long a publish may wait for the server's word.
_TIMEOUT_S = 30.0
#: Between the parts of an address in :data:`Outgoing`; AMQP's names are texts without it.
_BREAK = "\x00"


class AmqpTemplate(Template):
    """The constant parts of one task's messages on RabbitMQ."""

    __slots__ = ()

    always_says_priority = False
    wrap = staticmethod(build_amqp_message)
    is_amqp = True

    def __init__(self, name: str, destination: Destination, **settings: Any) -> None:
        super().__init__(name, destination, **settings)
        self.queue = _address(destination)


def _address(destination: Destination) -> str:
    return _BREAK.join((destination.queue, destination.exchange, destination.routing_key))


class AmqpOutlet:
    """Publishes to one server or list of servers; safe across threads and forks.

    Queues are declared when the first message goes there, as Celery's producers do, and a message for a queue through
    the default exchange that no queue takes is an error.
    """

    def __init__(self, conf: Settings, url: Any) -> None:
        options = dict(conf.broker_transport_options or {})
        self._conf = conf
        self._publisher = AmqpPublisher(
            amqp_addresses(conf, url, "pyworker publisher"),
            confirm=bool(options.get("confirm_publish", True)),
            timeout_s=float(options.get("confirm_timeout") or _TIMEOUT_S),
            max_idle=int(conf.broker_pool_limit or 1),
        )
        self._router = Router(conf)
        self._declared: set[str] = set()
        self._lock = threading.Lock()
        self._retry = PublishRetry(conf)
        self._expects_replies = str(conf.result_backend or "").partition("://")[0] == RPC_SCHEME

    #: Makes the constant parts of a task's messages.
    template = AmqpTemplate

    @staticmethod
    def wrap(message: Message, destination: Destination) -> Outgoing:
        """Encode any message, with kombu's properties of its AMQP transport."""
        payload = encode_body(message.body, message.serializer)
        if message.compression:
            payload = compressed(payload, message.compression, message.headers)
        properties = {**message.properties, "delivery_mode": destination.delivery_mode}
        if message.priority is not None:
            properties["priority"] = message.priority
        if message.expiration_s is not None:
            properties["expiration"] = str(int(message.expiration_s * 1000))
        content = build_amqp_message(
            payload.data,
            encode_json(message.headers),
            encode_json(properties),
            payload.content_type,
            payload.content_encoding,
        )
        return _address(destination), message.priority or 0, content

    def push(self, outgoing: Outgoing, retry: bool | None = None, policy: Mapping[str, Any] | None = None) -> None:
        """Publish one message.

        Raises:
            OperationalError: the broker cannot be reached, refuses, or does not confirm in time; after the retries that
                the policy allows.
        """
        try:
            self._publish([outgoing])
        except NativeError as error:
            self._retry.again(lambda: self._publish([outgoing]), error, retry, policy)

    def push_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish many messages, their confirmations awaited together.

        Raises:
            OperationalError: as :meth:`push`. A batch is not tried again when part of it may have gone out.
        """
        try:
            self._publish(outgoing)
        except NativeError as error:
            raise OperationalError(str(error)) from error

    def close(self) -> None:
        """Close idle connections."""
        self._publisher.close()

    def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        # Where this thread hears of results, before any of them can come. Each time, as in Celery: the server forgets
        # the queue when it expires, and when the connection that consumed from it is gone.
        first = reply_queue(self._conf) if self._expects_replies and not joins_block() else None
        messages = []
        for address, _priority, content in outgoing:
            queue, exchange, routing_key = address.split(_BREAK)
            if queue not in self._declared:
                self._declare(queue)
            messages.append((exchange, routing_key, not exchange, content))
        self._publisher.publish_many(messages, first=first)

    def _declare(self, queue: str) -> None:
        self._publisher.declare(declarations_of([kombu_queue(self._conf, self._router, queue)]))
        with self._lock:
            self._declared.add(queue)
