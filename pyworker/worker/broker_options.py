"""Options that mean the same on several brokers and in both libraries."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.config import QueueOrder, RetryPolicy


def owner_name(hostname: str) -> str:
    """Return a name under which this process holds messages; nobody else has it."""
    return f"{hostname}.{os.getpid()}.{secrets.token_hex(4)}"


def connection_retry(conf: Any) -> RetryPolicy:
    """Return the rule for lost connections (``broker_connection_*``); the intervals are kombu's own."""
    on_startup = conf.broker_connection_retry_on_startup
    return RetryPolicy(
        retry=bool(conf.broker_connection_retry),
        retry_on_startup=bool(conf.broker_connection_retry if on_startup is None else on_startup),
        # Zero means for ever, as documented.
        max_retries=conf.broker_connection_max_retries or None,
    )


def retry_of(policy: Mapping[str, Any]) -> RetryPolicy:
    """Return a ``retry_policy`` in kombu's words as the engine takes it; without ``max_retries`` it never gives up."""
    limit = policy.get("max_retries")
    return RetryPolicy(
        max_retries=None if limit is None else int(limit),
        interval_start_s=float(policy.get("interval_start") or 0.0),
        interval_step_s=float(policy.get("interval_step") or 0.0),
        interval_max_s=float(policy.get("interval_max") or 0.0),
    )


def reading_order(strategy: Any, queues: tuple[str, ...]) -> tuple[QueueOrder, tuple[str, ...]]:
    """Return how queues are read, and in which order they stand, by kombu's ``queue_order_strategy``.

    Raises:
        ImproperlyConfigured: the strategy is not supported; names the option.
    """
    if strategy == "round_robin":
        return QueueOrder.ROUND_ROBIN, queues
    if strategy == "priority":
        return QueueOrder.PRIORITY, queues
    if strategy == "sorted":
        return QueueOrder.PRIORITY, tuple(sorted(queues))
    raise ImproperlyConfigured(
        f"broker_transport_options: queue_order_strategy {strategy!r} is not supported; "
        "use round_robin, priority or sorted"
    )
