"""Garbage collection where a client library does not bear it at every moment."""

from __future__ import annotations

import threading

import redis


def can_deadlock_in_a_collection() -> bool:
    """Tell whether the installed redis-py waits for itself when a result of Celery's is collected as it subscribes.

    The result's end unsubscribes, in the same thread: older releases lock both with a lock that is not re-entrant.
    """
    subscriptions = redis.client.PubSub(redis.ConnectionPool())
    return not isinstance(subscriptions._lock, type(threading.RLock()))
