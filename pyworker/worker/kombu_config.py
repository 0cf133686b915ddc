"""Configuration of a broker behind one of kombu's transports.

The native side reads ``queues``, ``max_message_bytes`` and ``link`` (``native/src/broker/kombu``); the rest is for the
thread that owns kombu's connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pyworker._native import KombuLink
from pyworker.worker.config import RetryPolicy


@dataclass(frozen=True, kw_only=True)
class KombuBrokerConfig:
    """A broker that is reached through kombu."""

    kind: ClassVar[str] = "kombu"
    queues: tuple[str, ...]
    #: Why there is no native way to this broker; for people.
    reason: str
    #: Celery's prefetch count, for queues that take no other than a fixed one; 0 is no limit.
    prefetch_count: int
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: ``broker_channel_error_retry``: an error of a channel is answered by connecting anew.
    retries_channel_errors: bool = False
    max_message_bytes: int = 512 * 1024 * 1024
    link: KombuLink = field(default_factory=KombuLink)
