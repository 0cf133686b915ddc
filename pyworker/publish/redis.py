"""The native way of messages into Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pyworker._native import NativeError, RedisPublisher, build_envelope
from pyworker.exceptions import OperationalError
from pyworker.identifiers import delivery_tag
from pyworker.publish.encoding import compressed, encode_body, encode_json
from pyworker.publish.messages import Message
from pyworker.publish.outlets import Outgoing
from pyworker.publish.retry import PublishRetry
from pyworker.publish.templates import Template
from pyworker.routing import Destination
from pyworker.transport.redis_settings import broker_address

if TYPE_CHECKING:
    from pyworker.conf import Settings

#: kombu's defaults.
_PRIORITY_STEPS = (0, 3, 6, 9)
_SEPARATOR = "\x06\x16"


class EnvelopePublisher(Protocol):
    """What an outlet needs of the native side; errors are :class:`NativeError`."""

    def publish(self, queue: str, priority: int, message: bytes) -> None:
        """Publish one envelope."""

    def publish_many(self, messages: Sequence[tuple[str, int, bytes]]) -> None:
        """Publish many envelopes."""

    def close(self) -> None:
        """Close idle connections."""


class RedisOutlet:
    """Puts envelopes into the queues of one server; safe across threads and forks."""

    def __init__(self, conf: Settings, url: str) -> None:
        options = dict(conf.broker_transport_options or {})
        self._publisher: EnvelopePublisher = RedisPublisher(
            broker_address(conf, url),
            global_keyprefix=str(options.get("global_keyprefix") or ""),
            separator=str(options.get("sep") or _SEPARATOR),
            priority_steps=tuple(int(step) for step in options.get("priority_steps") or _PRIORITY_STEPS),
            max_connections=int(conf.broker_pool_limit or 1),
        )
        self._retry = PublishRetry(conf)

    #: Makes the constant parts of a task's messages.
    template = Template

    @staticmethod
    def wrap(message: Message, destination: Destination) -> Outgoing:
        """Encode any message, with kombu's properties of a virtual transport."""
        payload = encode_body(message.body, message.serializer)
        if message.compression:
            payload = compressed(payload, message.compression, message.headers)
        properties = dict(message.properties)
        properties["delivery_mode"] = destination.delivery_mode
        if message.expiration_s is not None:
            properties["expiration"] = str(int(message.expiration_s * 1000))
        properties["delivery_info"] = {"exchange": destination.exchange, "routing_key": destination.routing_key}
        properties["priority"] = message.priority or 0
        properties["body_encoding"] = "base64"
        properties["delivery_tag"] = delivery_tag()
        envelope = build_envelope(
            payload.data,
            encode_json(message.headers),
            encode_json(properties),
            payload.content_type,
            payload.content_encoding,
        )
        return destination.queue, message.priority or 0, envelope

    def push(self, outgoing: Outgoing, retry: bool | None = None, policy: Mapping[str, Any] | None = None) -> None:
        """Publish one message.

        Raises:
            OperationalError: the broker cannot be reached or refuses; after the retries that the policy allows.
        """
        publish = self._publisher.publish
        try:
            publish(*outgoing)
        except NativeError as error:
            self._retry.again(lambda: publish(*outgoing), error, retry, policy)

    def push_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish many messages in as few round trips as possible.

        Raises:
            OperationalError: as :meth:`push`. A batch is not tried again when part of it may have gone out.
        """
        try:
            self._publisher.publish_many(outgoing)
        except NativeError as error:
            raise OperationalError(str(error)) from error

    def close(self) -> None:
        """Close idle connections."""
        self._publisher.close()
