"""What tasks leave behind for the tests, and gates at which they wait, both in the test's Redis.

``TEST_JOURNAL_URL`` names another server where the broker itself is the one that breaks.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import redis

_clients: dict[int, redis.Redis] = {}


def client() -> Any:
    """Return this process's own connection; one made before a fork is never used after it."""
    pid = os.getpid()
    if pid not in _clients:
        address = os.environ.get("TEST_JOURNAL_URL") or os.environ["TEST_BROKER_URL"]
        _clients[pid] = redis.Redis.from_url(address, decode_responses=True, socket_timeout=None)
    return _clients[pid]


def record(name: str, **entry: Any) -> None:
    """Append an entry to a journal, with the process that wrote it."""
    client().rpush(f"journal:{name}", json.dumps({"pid": os.getpid(), **entry}, default=repr))


def stamp(name: str, what: str, **entry: Any) -> None:
    """Record an entry with a monotonic time (one clock for all processes of the machine)."""
    record(name, what=what, at=time.monotonic(), **entry)


def wait_at_gate(name: str, deadline_s: float = 60.0) -> bool:
    """Block until the test opens the gate once for us; False when the deadline passed."""
    return client().blpop([f"gate:{name}"], timeout=deadline_s) is not None


def count(name: str, member: str) -> int:
    """Count one execution of ``member``; returns how many there are now."""
    return int(client().hincrby(f"executions:{name}", member, 1))
