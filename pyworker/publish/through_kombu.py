"""Publishing by kombu: to exchanges that only the broker resolves, and through producers of the caller's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.common import Broadcast
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError as KombuError

from pyworker.exceptions import OperationalError
from pyworker.publish.messages import Message
from pyworker.redacting import redacted

if TYPE_CHECKING:
    from pyworker.conf import Settings
    from pyworker.routing import Destination


def publish(
    conf: Settings,
    producer: Any,
    message: Message,
    destination: Destination,
    retry: bool | None,
    policy: Mapping[str, Any] | None,
) -> None:
    """Publish one message as Celery does.

    Args:
        conf: the settings.
        producer: a ``kombu.Producer``.
        message: what to publish.
        destination: where to.
        retry, policy: the call's own; the settings say otherwise.

    Raises:
        OperationalError: the broker cannot be reached or refuses.
    """
    properties = dict(message.properties)
    if message.expiration_s is not None:
        properties["expiration"] = message.expiration_s
    try:
        producer.publish(
            message.body,
            exchange=destination.exchange,
            routing_key=destination.routing_key,
            serializer=message.serializer or conf.task_serializer,
            compression=message.compression or conf.task_compression,
            retry=conf.task_publish_retry if retry is None else retry,
            retry_policy={**(conf.task_publish_retry_policy or {}), **(policy or {})},
            delivery_mode=destination.delivery_mode,
            declare=_declared(destination),
            headers=message.headers,
            priority=message.priority,
            **properties,
        )
    except (KombuError, OSError, *producer.connection.connection_errors, *producer.connection.channel_errors) as error:
        raise OperationalError(redacted(str(error))) from error


@contextmanager
def producer_of(connection: Any) -> Iterator[Any]:
    """Give a producer on a connection of the caller's own, for the time of a ``with`` block."""
    with connection.Producer(auto_declare=False) as producer:
        yield producer


def _declared(destination: Destination) -> list[Any]:
    """What has to exist for the message to arrive: queues with their bindings, exchanges."""
    found = []
    for queue in destination.declares:
        own = getattr(queue, "declared", queue)
        if isinstance(own, Broadcast):
            found.append(own.exchange)
        else:
            found.append(own if own is not None else declarable(*queue[:4]))
    return found


def declarable(name: str, exchange: str, exchange_type: str, routing_key: str) -> Queue:
    """Return the ``kombu.Queue`` of a configured queue."""
    return Queue(name, Exchange(exchange, exchange_type), routing_key=routing_key)
