"""What a worker declares on RabbitMQ, computed from ``kombu`` queues in the order in which kombu declares them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.amqp_config import (
    AmqpQueue,
    BindExchange,
    BindQueue,
    Declaration,
    DeclareExchange,
    DeclareQueue,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: kombu's names for the exchanges and queues in which delayed messages wait (``native_delayed_delivery``).
_LEVELS = 28
_DELIVERY = "celery_delayed_delivery"
#: AMQP's limit for a routing key, less the words of the levels and our mark.
_LONGEST_KEY = 255 - 2 * _LEVELS
_MARK = "pyworker-"
_OPTIONS = {
    "expires": ("x-expires", 1000),
    "message_ttl": ("x-message-ttl", 1000),
    "max_length": ("x-max-length", 1),
    "max_length_bytes": ("x-max-length-bytes", 1),
    "max_priority": ("x-max-priority", 1),
}


def queue_of(queue: Any) -> AmqpQueue:
    """Return how a queue is consumed from.

    Raises:
        ImproperlyConfigured: the queue has what cannot be passed to the engine.
    """
    where = f"task_queues: {queue.name}"
    if queue.on_declared is not None:
        raise ImproperlyConfigured(f"{where}: on_declared is not supported: the queue is declared natively")
    key = _delay_key(queue.name)
    return AmqpQueue(
        name=queue.name,
        no_ack=bool(queue.no_ack),
        arguments=_arguments(queue.consumer_arguments, f"{where}: consumer_arguments"),
        delay_key=key if len(key) <= _LONGEST_KEY and not queue.no_ack else None,
    )


def added_queue_of(queue: Any) -> AmqpQueue:
    """Return how a queue is consumed from that a running worker is told of: its far ETA tasks wait in the worker.

    Raises:
        ImproperlyConfigured: as :func:`queue_of`.
    """
    return replace(queue_of(queue), delay_key=None)


def declarations_of(queues: Iterable[Any]) -> tuple[Declaration, ...]:
    """Return everything to declare for these queues, each thing once.

    Raises:
        ImproperlyConfigured: an argument has no form in AMQP.
    """
    found: dict[Declaration, None] = {}
    for queue in queues:
        if not queue.no_declare:
            found.update(dict.fromkeys(_of_queue(queue)))
    return tuple(found)


def _of_queue(queue: Any) -> Iterable[Declaration]:
    where = f"task_queues: {queue.name}"
    # kombu forgets a queue's own exchange where it has bindings.
    exchange = None if queue.bindings else queue.exchange
    if exchange:
        yield from _of_exchange(exchange)
    yield DeclareQueue(
        name=queue.name,
        durable=bool(queue.durable),
        exclusive=bool(queue.exclusive),
        auto_delete=bool(queue.auto_delete),
        arguments=_arguments(_queue_arguments(queue), f"{where}: queue_arguments"),
    )
    if exchange and exchange.name:
        yield BindQueue(
            queue=queue.name,
            exchange=exchange.name,
            routing_key=queue.routing_key or "",
            arguments=_arguments(queue.binding_arguments, f"{where}: binding_arguments"),
        )
    for binding in sorted(queue.bindings or (), key=lambda one: (one.exchange.name, one.routing_key or "")):
        yield from _of_exchange(binding.exchange)
        if binding.exchange.name:
            yield BindQueue(
                queue=queue.name,
                exchange=binding.exchange.name,
                routing_key=binding.routing_key or "",
                arguments=_arguments(binding.arguments, f"{where}: arguments of a binding"),
            )


def _of_exchange(exchange: Any) -> Iterable[Declaration]:
    # The default exchange and the server's own cannot be declared; kombu asks the same.
    if exchange.no_declare or not exchange.name or exchange.name.startswith("amq."):
        return
    yield DeclareExchange(
        name=exchange.name,
        type=exchange.type,
        passive=bool(exchange.passive),
        durable=bool(exchange.durable),
        auto_delete=bool(exchange.auto_delete),
        arguments=_arguments(exchange.arguments, f"exchange {exchange.name}: arguments"),
    )


def _queue_arguments(queue: Any) -> dict[str, Any]:
    arguments = dict(queue.queue_arguments or {})
    for option, (name, factor) in _OPTIONS.items():
        value = getattr(queue, option)
        if value is not None:
            arguments[name] = int(value * factor)
    return arguments


def _arguments(arguments: Mapping[str, Any] | None, where: str) -> bytes:
    if not arguments:
        return b""
    try:
        return json.dumps(arguments, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{where}: {error}") from error


def _delay_key(queue_name: str) -> str:
    """One word of a topic key that names a queue and nothing else."""
    return _MARK + re.sub(r"[%.*#]", lambda match: f"%{ord(match[0]):02x}", queue_name)


def delay_levels(queues: Iterable[AmqpQueue], queue_type: str) -> tuple[Declaration, ...]:
    """Return kombu's delay levels, and what leads from them back to the queues.

    kombu binds a queue's exchange to the last level, which cannot work for direct exchanges; each queue is bound to
    it here by a key of its own.

    Args:
        queues: the queues to lead back to.
        queue_type: ``classic`` or ``quorum``, Celery's ``broker_native_delayed_delivery_queue_type``.
    """
    found: list[Declaration] = [DeclareExchange(name=_DELIVERY, type="topic")]
    found += [DeclareExchange(name=_level(level), type="topic") for level in range(_LEVELS)]
    for level in range(_LEVELS):
        after = _level(level - 1) if level else _DELIVERY
        words = "*." * (_LEVELS - 1 - level)
        arguments: dict[str, Any] = {
            "x-queue-type": queue_type,
            "x-overflow": "reject-publish",
            "x-message-ttl": 2**level * 1000,
            "x-dead-letter-exchange": after,
        }
        if queue_type == "quorum":
            arguments["x-dead-letter-strategy"] = "at-least-once"
        name = _level(level)
        found.append(DeclareQueue(name=name, arguments=json.dumps(arguments).encode()))
        found.append(BindQueue(queue=name, exchange=name, routing_key=f"{words}1.#"))
        found.append(BindExchange(destination=after, source=name, routing_key=f"{words}0.#"))
    found += [
        BindQueue(queue=queue.name, exchange=_DELIVERY, routing_key=f"#.{queue.delay_key}")
        for queue in queues
        if queue.delay_key is not None
    ]
    return tuple(found)


def _level(level: int) -> str:
    return f"celery_delayed_{level}"


def upstream_delay_bindings(queues: Iterable[Any]) -> tuple[Declaration, ...]:
    """Return the bindings by which messages that stock clients delay reach these queues, as kombu makes them."""
    found: dict[Declaration, None] = {}
    for queue in queues:
        pairs = [(binding.exchange, binding.routing_key) for binding in queue.bindings or ()]
        if queue.exchange and not pairs:
            pairs = [(queue.exchange, queue.routing_key)]
        for exchange, routing_key in pairs:
            if exchange.type == "direct" or not exchange.name:
                continue
            key = routing_key if (routing_key or "").startswith("#") else f"#.{routing_key}"
            found[BindExchange(destination=exchange.name, source=_DELIVERY, routing_key=key)] = None
            found[BindQueue(queue=queue.name, exchange=exchange.name, routing_key=key)] = None
    return tuple(found)


def uses_quorum_queues(queues: Iterable[Any]) -> bool:
    """Whether any queue is a quorum queue: then stock clients delay messages in the server."""
    return any((queue.queue_arguments or {}).get("x-queue-type") == "quorum" for queue in queues)
