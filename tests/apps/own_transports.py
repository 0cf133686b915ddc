"""Transports of an application's own: subclasses of kombu's, which are never replaced by native ones."""

from __future__ import annotations

from kombu.transport.pyamqp import Transport as PyamqpTransport
from kombu.transport.redis import Transport as RedisTransport


class SubclassedRedis(RedisTransport):
    """Redis as kombu speaks it."""


class SubclassedRabbitmq(PyamqpTransport):
    """RabbitMQ as kombu speaks it."""
